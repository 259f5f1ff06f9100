//! Events about images.

use std::collections::BTreeMap;

use crate::daemon::Daemon;

/// Tells what happens to an image, with its labels: events are chosen by them.
pub(crate) fn announce(daemon: &Daemon, action: &'static str, image: &str, name: String) {
    let found = daemon.config.content.image(image).ok();
    let mut attributes: BTreeMap<String, String> =
        found.map(|image| image.config.config.labels.into_iter().collect()).unwrap_or_default();
    attributes.insert("name".into(), name);
    daemon.events.emit("image", action, image, attributes);
}
