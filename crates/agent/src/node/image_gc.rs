//! Images that were pulled for pods and that none uses any more are removed when their disk fills up, or when they have
//! been of no use for too long (upstream's `imageGC…` settings).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::machine;
use crate::{activity::Deed, context::Context, events::Severity, runtime::ImageInfo};

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Percent of the disk in use from which on images are removed; 100 for never.
    pub high: u8,
    /// Percent down to which they are.
    pub low: u8,
    /// How long an image stays at least.
    pub minimum_age: Duration,
    /// How long an image stays that nobody uses; `None` for as long as the disk has room.
    pub maximum_age: Option<Duration>,
}

impl Default for ImageLimits {
    /// Upstream's.
    fn default() -> Self {
        Self { high: 85, low: 80, minimum_age: Duration::from_secs(120), maximum_age: None }
    }
}

/// What was seen of the images.
pub struct Collector {
    /// When it began to look: of what was before that it knows nothing.
    began: Instant,
    seen: HashMap<String, Seen>,
    failed_before: bool,
}

/// Why an image is removed, as metrics call it.
const FOR_SPACE: &str = "space";
const FOR_AGE: &str = "age";

#[derive(Clone, Copy)]
struct Seen {
    /// `None` if it was there before anybody looked.
    first: Option<Instant>,
    used: Option<Instant>,
}

impl Collector {
    /// Notes what is there at the start: that is old enough to go.
    pub async fn begin(&mut self, context: &Arc<Context>) {
        self.look(context).await;
        self.seen.values_mut().for_each(|seen| seen.first = None);
    }

    /// Looks at the images and at their disk, and removes what is too old and what is too much.
    pub async fn keep_within_limits(&mut self, context: &Arc<Context>, node: &Node) {
        let failure = self.collect(context).await;
        let recorder = &context.recorder;
        if let Some((reason, message)) = &failure {
            recorder.node(node, Severity::Warning, reason, message.clone());
        }
        let failed_before = std::mem::replace(&mut self.failed_before, failure.is_some());
        if let Some((_, message)) = failure.filter(|_| failed_before) {
            recorder.node(node, Severity::Warning, "ImageGCFailed", message);
        }
    }

    /// The reason and message of what failed.
    async fn collect(&mut self, context: &Arc<Context>) -> Option<(&'static str, String)> {
        let limits = context.config.images;
        let dir = context.images.directory().unwrap_or_else(|| context.data_dir().to_path_buf());
        let mut images = self.look(context).await;
        if let Some(age) = limits.maximum_age {
            let old = self.outdated(&images, age, Instant::now());
            for image in &old {
                remove(context, image, FOR_AGE).await;
            }
            images.retain(|(image, _)| !old.contains(&image.id));
        }
        let (capacity, available, ..) = machine::storage(&dir)?;
        if capacity == 0 {
            return Some(("InvalidDiskCapacity", "invalid capacity 0 on image filesystem".to_owned()));
        }
        let wanted = excess(limits, capacity, available)?;
        let mut freed = 0;
        for image in self.removable(&images, limits.minimum_age) {
            if freed >= wanted {
                break;
            }
            if remove(context, &image, FOR_SPACE).await {
                let now = machine::storage(&dir).map_or(available, |(_, available, ..)| available);
                freed = now - available;
            }
        }
        (freed < wanted).then(|| ("FreeDiskSpaceFailed", too_full(capacity, available, freed.max(0))))
    }

    /// Removes all that nobody uses.
    pub async fn remove_unused(&mut self, context: &Arc<Context>) {
        let images = self.look(context).await;
        for image in self.removable(&images, Duration::ZERO) {
            remove(context, &image, FOR_SPACE).await;
        }
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
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen { first: Some(now), used: None });
            if in_use {
                seen.used = Some(now);
            }
            let keep = in_use || !context.pulled_images.has(&image.id);
            (image, keep)
        });
        with_fate.collect()
    }

    /// Ids of the images that nobody has used for longer than `age`. An agent that has not looked for that long does not
    /// know.
    fn outdated(&self, images: &[(ImageInfo, bool)], age: Duration, now: Instant) -> Vec<String> {
        if now.duration_since(self.began) <= age {
            return Vec::new();
        }
        let since =
            |image: &ImageInfo| self.seen.get(&image.id).map(|seen| seen.used.or(seen.first).unwrap_or(self.began));
        let old = |image: &ImageInfo| since(image).is_some_and(|since| now.duration_since(since) > age);
        images.iter().filter(|(image, keep)| !keep && old(image)).map(|(image, _)| image.id.clone()).collect()
    }

    /// Ids of the images that may go, the least recently used first.
    fn removable(&self, images: &[(ImageInfo, bool)], minimum_age: Duration) -> Vec<String> {
        let now = Instant::now();
        let mut found: Vec<_> = images
            .iter()
            .filter(|(_, keep)| !keep)
            .filter_map(|(image, _)| Some((image, self.seen.get(&image.id)?)))
            .filter(|(_, seen)| seen.first.is_none_or(|first| now.duration_since(first) >= minimum_age))
            .collect();
        found.sort_by_key(|(_, seen)| (seen.used, seen.first));
        found.into_iter().map(|(image, _)| image.id.clone()).collect()
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self { began: Instant::now(), seen: HashMap::new(), failed_before: false }
    }
}

/// Whether it could be removed.
async fn remove(context: &Arc<Context>, image: &str, why: &'static str) -> bool {
    match context.images.remove(image).await {
        Ok(()) => {
            context.pulled_images.remove(image);
            context.images_changed.notify_one();
            context.activity.add(Deed::RemoveImage(why));
            true
        }
        Err(error) => {
            tracing::debug!(%error, image, "an image could not be removed");
            false
        }
    }
}

/// What is told of a disk on which too little could be freed, and what there was before.
fn too_full(capacity: i64, available: i64, freed: i64) -> String {
    let (used, size) = (used_percent(capacity, available), size(capacity));
    format!(
        "Insufficient free disk space on the node's image filesystem ({used}% of {size} used). Failed to free sufficient \
         space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active \
         images, logs, volumes, or other data."
    )
}

/// Of a disk that holds something at all.
fn used_percent(capacity: i64, available: i64) -> i64 {
    100 - available.saturating_mul(100) / capacity
}

/// For people.
fn size(bytes: i64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(bits, _)| bytes >> bits > 0) {
        Some((bits, unit)) => format!("{:.1} {unit}", bytes as f64 / (1i64 << bits) as f64),
        None => format!("{bytes} B"),
    }
}

/// Bytes to be freed, if the disk is too full.
fn excess(limits: ImageLimits, capacity: i64, available: i64) -> Option<i64> {
    if capacity <= 0 || limits.high >= 100 {
        return None;
    }
    let used = used_percent(capacity, available);
    (used >= i64::from(limits.high)).then(|| capacity / 100 * (100 - i64::from(limits.low)) - available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_stays_full_is_told_of_with_its_size() {
        let message = too_full(114_700 << 20, 34_410 << 20, 1_911_349);
        assert!(
            message
                .starts_with("Insufficient free disk space on the node's image filesystem (70% of 112.0 GiB used). ")
        );
        assert!(message.contains(" by deleting unused images (freed 1911349 bytes). "), "{message}");
        assert_eq!([size(0), size(1023), size(1536)], ["0 B", "1023 B", "1.5 KiB"]);
    }

    #[test]
    fn the_disk_is_emptied_to_the_low_mark_from_the_high_one_on() {
        let limits = ImageLimits::default();
        assert_eq!(excess(limits, 1000, 160), None);
        assert_eq!(excess(limits, 1000, 150), Some(50));
        assert_eq!(excess(limits, 1000, 0), Some(200));
        assert_eq!(excess(ImageLimits { high: 100, ..limits }, 1000, 0), None);
    }

    #[tokio::test]
    async fn an_image_of_no_use_for_too_long_goes_once_the_agent_has_looked_for_as_long() {
        let mut collector = Collector::default();
        let began = collector.began;
        let at = |seconds| began + Duration::from_secs(seconds);
        for (id, first, used) in
            [("never", None, None), ("once", None, Some(50)), ("used", None, Some(101)), ("new", Some(60), None)]
        {
            collector.seen.insert(id.to_owned(), Seen { first: first.map(at), used: used.map(at) });
        }
        let image = |id: &str, keep| (ImageInfo { id: id.into(), ..ImageInfo::default() }, keep);
        let images = [image("never", false), image("once", false), image("used", true), image("new", false)];
        let age = Duration::from_secs(100);
        assert!(collector.outdated(&images, age, at(100)).is_empty(), "not long enough");
        assert_eq!(collector.outdated(&images, age, at(101)), ["never"]);
        assert_eq!(collector.outdated(&images, age, at(161)), ["never", "once", "new"]);
        assert_eq!(collector.outdated(&images, age, at(999)), ["never", "once", "new"], "what is in use stays");
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
            collector.seen.insert(id.to_owned(), Seen { first: Some(first), used });
        }
        collector.seen.insert("before".to_owned(), Seen { first: None, used: None });
        let images = [
            (image("once", "a@sha256:1"), false),
            (image("used", "b@sha256:2"), true),
            (image("young", "c@sha256:3"), false),
            (image("never", "d@sha256:4"), false),
            (image("before", "e@sha256:5"), false),
        ];
        assert_eq!(collector.removable(&images, Duration::from_secs(120)), ["before", "never", "once"]);
    }
}
