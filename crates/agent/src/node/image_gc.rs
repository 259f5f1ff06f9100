//! Images that were pulled for pods and that none uses any more are removed when their disk fills up (upstream's
//! `imageGC…` settings).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::machine;
use crate::{context::Context, events::Severity, runtime::ImageInfo};

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Percent of the disk in use from which on images are removed; 100 for never.
    pub high: u8,
    /// Percent down to which they are.
    pub low: u8,
    /// How long an image stays at least.
    pub minimum_age: Duration,
}

impl Default for ImageLimits {
    /// Upstream's.
    fn default() -> Self {
        Self { high: 85, low: 80, minimum_age: Duration::from_secs(120) }
    }
}

/// What was seen of the images.
#[derive(Default)]
pub struct Collector {
    seen: HashMap<String, Seen>,
    failed_before: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    first: Instant,
    used: Option<Instant>,
}

impl Collector {
    /// Looks at the disk and removes what is too much.
    pub async fn keep_within_limits(&mut self, context: &Arc<Context>, node: &Node) {
        let limits = context.config.images;
        let dir = context.images.directory().unwrap_or_else(|| context.data_dir().to_path_buf());
        let images = self.look(context).await;
        let Some((capacity, available, ..)) = machine::storage(&dir) else { return };
        let Some(wanted) = excess(limits, capacity, available) else {
            self.failed_before = false;
            return;
        };
        let mut freed = 0;
        for image in self.removable(&images, limits.minimum_age) {
            if freed >= wanted {
                break;
            }
            if context.images.remove(&image).await.is_ok() {
                context.pulled_images.remove(&image);
                context.images_changed.notify_one();
                let now = machine::storage(&dir).map_or(available, |(_, available, ..)| available);
                freed = now - available;
            }
        }
        if freed < wanted {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {} bytes eligible to free.",
                freed.max(0)
            );
            let recorder = &context.recorder;
            recorder.node(node, Severity::Warning, "FreeDiskSpaceFailed", message.clone());
            if std::mem::replace(&mut self.failed_before, true) {
                recorder.node(node, Severity::Warning, "ImageGCFailed", message);
            }
        }
    }

    /// Removes all that nobody uses.
    pub async fn remove_unused(&mut self, context: &Arc<Context>) {
        let images = self.look(context).await;
        for image in self.removable(&images, Duration::ZERO) {
            match context.images.remove(&image).await {
                Ok(()) => context.pulled_images.remove(&image),
                Err(error) => tracing::debug!(%error, image, "an image could not be removed"),
            }
        }
        context.images_changed.notify_one();
    }

    async fn look(&mut self, context: &Arc<Context>) -> Vec<(ImageInfo, bool)> {
        let images = context.images.list().await.unwrap_or_default();
        let views = context.pods.all();
        let live = views.iter().filter(|v| v.sandbox.is_some());
        let used: HashSet<&str> =
            live.flat_map(|v| &v.containers).flat_map(|c| [c.image_id.as_str(), c.image.as_str()]).collect();
        let now = Instant::now();
        self.seen.retain(|id, _| images.iter().any(|i| i.id == *id));
        let with_fate = images.into_iter().map(|image| {
            let names = image.names.iter().chain([&image.image_id, &image.display, &image.id]);
            let in_use = names.into_iter().any(|n| used.contains(n.as_str()));
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen { first: now, used: None });
            if in_use {
                seen.used = Some(now);
            }
            let keep = in_use || !context.pulled_images.has(&image.id);
            (image, keep)
        });
        with_fate.collect()
    }

    /// Ids of the images that may go, the least recently used first.
    fn removable(&self, images: &[(ImageInfo, bool)], minimum_age: Duration) -> Vec<String> {
        let now = Instant::now();
        let mut found: Vec<_> = images
            .iter()
            .filter(|(_, keep)| !keep)
            .filter_map(|(image, _)| Some((image, self.seen.get(&image.id)?)))
            .filter(|(_, seen)| now.duration_since(seen.first) >= minimum_age)
            .collect();
        found.sort_by_key(|(_, seen)| (seen.used, seen.first));
        found.into_iter().map(|(image, _)| image.id.clone()).collect()
    }
}

/// Bytes to be freed, if the disk is too full.
fn excess(limits: ImageLimits, capacity: i64, available: i64) -> Option<i64> {
    if capacity <= 0 || limits.high >= 100 {
        return None;
    }
    let used = 100 - available.saturating_mul(100) / capacity;
    (used >= i64::from(limits.high)).then(|| capacity / 100 * (100 - i64::from(limits.low)) - available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_emptied_to_the_low_mark_from_the_high_one_on() {
        let limits = ImageLimits::default();
        assert_eq!(excess(limits, 1000, 160), None);
        assert_eq!(excess(limits, 1000, 150), Some(50));
        assert_eq!(excess(limits, 1000, 0), Some(200));
        assert_eq!(excess(ImageLimits { high: 100, ..limits }, 1000, 0), None);
    }

    #[tokio::test]
    async fn images_in_use_and_young_ones_stay() {
        let image =
            |id: &str, name: &str| ImageInfo { id: id.into(), names: vec![name.into()], ..ImageInfo::default() };
        let now = Instant::now();
        let old = now.checked_sub(Duration::from_secs(200)).expect("the machine has been up for long enough");
        let mut collector = Collector::default();
        for (id, first, used) in
            [("used", old, Some(now)), ("young", now, None), ("never", old, None), ("once", old, Some(old))]
        {
            collector.seen.insert(id.to_owned(), Seen { first, used });
        }
        let images = [
            (image("once", "a@sha256:1"), false),
            (image("used", "b@sha256:2"), true),
            (image("young", "c@sha256:3"), false),
            (image("never", "d@sha256:4"), false),
        ];
        assert_eq!(collector.removable(&images, Duration::from_secs(120)), ["never", "once"]);
    }
}
