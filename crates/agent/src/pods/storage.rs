//! What a pod writes to the node's disk, and its limits: looked at now and then, as the kubelet does; who takes more
//! than it may is evicted. (The kernel itself limits what is in memory.)

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    actor::{Eviction, PodView},
    admission::limited,
    prepare::root_id,
};
use crate::{
    activity::Deed,
    context::Context,
    node::eviction,
    spec::{
        quantity,
        resources::{Side, amount},
    },
};

/// Between two looks; the kubelet's.
const PERIOD: Duration = Duration::from_secs(10);

/// `resources.….ephemeral-storage`
const STORAGE: &str = "ephemeral-storage";

/// What a pod has on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of each container: its writable layer and its logs.
    pub containers: BTreeMap<String, Taken>,
    /// Of each emptyDir on disk.
    pub volumes: BTreeMap<String, Taken>,
}

/// What files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl Taken {
    fn of(trees: &[(u64, u64)]) -> Self {
        Self { bytes: trees.iter().map(|t| t.0).sum(), inodes: trees.iter().map(|t| t.1).sum() }
    }
}

/// Measures it.
pub async fn usage(context: &Arc<Context>, view: &PodView) -> Usage {
    let paths = context.paths(&view.pod);
    let uid = view.pod.metadata.uid.clone().unwrap_or_default();
    let mut roots = BTreeMap::new();
    for record in &view.containers {
        let attempt = record.restart_count;
        let root = context.images.root_usage(&root_id(&uid, &record.name, attempt)).await;
        roots.insert(record.name.clone(), (root, paths.logs.join(&record.name)));
    }
    let volumes: Vec<(String, PathBuf)> =
        empty_dirs(&view.pod).map(|(name, _)| (name.to_owned(), paths.volume("empty-dir", name))).collect();
    let work = move || Usage {
        containers: roots
            .into_iter()
            .map(|(name, (root, logs))| (name, Taken::of(&[root, tree_size(&logs)])))
            .collect(),
        volumes: volumes.into_iter().map(|(name, path)| (name, Taken::of(&[tree_size(&path)]))).collect(),
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Watches a pod that has limits; `None` if it has none, or is one that the node never gives up. Ends with its eviction.
pub fn watch(context: &Arc<Context>, pod: &Arc<Pod>) -> Option<impl Future<Output = Eviction> + Send + 'static> {
    let limited = empty_dirs(pod).any(|(_, limit)| limit.is_some()) || total_limit(pod).is_some();
    let limited = limited && !eviction::is_critical(pod);
    let (context, uid) = (Arc::clone(context), pod.metadata.uid.clone().unwrap_or_default());
    limited.then_some(async move {
        loop {
            tokio::time::sleep(PERIOD).await;
            let Some(view) = context.pods.follow(&uid).map(|v| Arc::clone(&v.borrow())) else { continue };
            if let Some((signal, message)) = excess(&view.pod, &usage(&context, &view).await) {
                context.activity.add(Deed::Evict(signal));
                let annotations = BTreeMap::new();
                return Eviction { reason: "Evicted", message, annotations, grace: Some(1), disrupts: false };
            }
        }
    })
}

/// In which way a pod takes too much: how metrics call it, and upstream's words (the space at the end is theirs, too).
/// Pure.
fn excess(pod: &Pod, usage: &Usage) -> Option<(&'static str, String)> {
    for (name, limit) in empty_dirs(pod) {
        let Some((bytes, shown)) = limit else { continue };
        if usage.volumes.get(name).is_some_and(|used| used.bytes > bytes) {
            let message = format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{shown}\". ");
            return Some(("emptydirfs.limit", message));
        }
    }
    if let Some((most, shown)) = total_limit(pod) {
        let total: u64 = usage.containers.values().chain(usage.volumes.values()).map(|taken| taken.bytes).sum();
        if total > most {
            let message = format!("Pod ephemeral local storage usage exceeds the total limit of containers {shown}. ");
            return Some(("ephemeralpodfs.limit", message));
        }
    }
    pod.spec.iter().flat_map(|s| &s.containers).find_map(|container| {
        let (limit, shown) = container_limit(container)?;
        let exceeds = usage.containers.get(&container.name).is_some_and(|used| used.bytes > limit);
        let name = &container.name;
        let message = format!("Container {name} exceeded its local ephemeral storage limit \"{shown}\". ");
        exceeds.then_some(("ephemeralcontainerfs.limit", message))
    })
}

/// The pod's emptyDirs on disk, with their limits in bytes and as they are written.
fn empty_dirs(pod: &Pod) -> impl Iterator<Item = (&str, Option<(u64, &str)>)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let empty = volume.empty_dir.as_ref().filter(|e| e.medium.as_deref() != Some("Memory"))?;
        let limit = empty.size_limit.as_ref().and_then(|limit| {
            let bytes = u64::try_from(quantity::whole(limit)?).ok().filter(|b| *b > 0)?;
            Some((bytes, limit.0.as_str()))
        });
        Some((volume.name.as_str(), limit))
    })
}

/// What all containers of a pod may take together, in bytes and as upstream shows it: those that run side by side, or
/// the init container that may take more (`resource.PodLimits`).
fn total_limit(pod: &Pod) -> Option<(u64, String)> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let written: Vec<&str> = init.chain(&spec.containers).filter_map(|c| Some(container_limit(c)?.1)).collect();
    let most = limited(spec, STORAGE);
    let shown = match written.as_slice() {
        [] => return None,
        [one] => (*one).to_owned(),
        _ => quantity::binary(most),
    };
    Some((u64::try_from(most).ok()?, shown))
}

fn container_limit(container: &Container) -> Option<(u64, &str)> {
    let resources = container.resources.as_ref();
    let bytes = amount(resources, Side::Limits, STORAGE, quantity::whole)?;
    let bytes = u64::try_from(bytes).ok().filter(|b| *b > 0)?;
    Some((bytes, resources?.limits.as_ref()?.get(STORAGE)?.0.as_str()))
}

/// Bytes that a tree takes on its own file system, and how many files and directories it has. What vanishes meanwhile
/// counts nothing.
pub fn tree_size(root: &Path) -> (u64, u64) {
    let Ok(top) = fs::symlink_metadata(root) else { return (0, 0) };
    let device = top.dev();
    let taken = |m: &Metadata| m.blocks() * 512;
    let (mut total, mut files) = (taken(&top), 1);
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            total += taken(&metadata);
            files += 1;
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (total, files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kib(bytes: u64) -> Taken {
        Taken { bytes: bytes << 10, inodes: 1 }
    }

    #[test]
    fn what_files_take_is_counted_all_the_way_down() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = tree_size(dir.path());
        fs::create_dir(dir.path().join("deep")).expect("made");
        fs::write(dir.path().join("deep/file"), vec![1; 1 << 20]).expect("written");
        let after = tree_size(dir.path());
        assert!((1 << 20..2 << 20).contains(&(after.0 - before.0)));
        assert_eq!((before.1, after.1), (1, 3));
        assert_eq!(tree_size(&dir.path().join("none")), (0, 0));
    }

    #[test]
    fn volumes_pods_and_containers_have_their_limits() {
        let limited = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {STORAGE: limit}}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [limited("a", "1Mi"), limited("b", "2Mi")],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "free", "emptyDir": {}}]}}))
        .expect("a pod");
        let said = |a: u64, b: u64, v: u64, free: u64| {
            let map = |list: [(&str, u64); 2]| list.into_iter().map(|(n, m)| (n.to_owned(), kib(m))).collect();
            excess(&pod, &Usage { containers: map([("a", a), ("b", b)]), volumes: map([("v", v), ("free", free)]) })
        };
        assert_eq!(said(1024, 1024, 1024, 0), None);
        let said = |a, b, v, free| said(a, b, v, free).map(|(_, message)| message);
        let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
        assert_eq!(said(0, 0, 1025, 0).as_deref(), Some(volume));
        let total = "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. ";
        assert_eq!(said(0, 0, 0, 3073).as_deref(), Some(total));
        let own = "Container a exceeded its local ephemeral storage limit \"1Mi\". ";
        assert_eq!(said(1025, 0, 0, 0).as_deref(), Some(own));
    }

    #[test]
    fn an_init_container_that_may_take_more_is_what_the_pod_may_take() {
        let limited = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {STORAGE: limit}}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [limited("first", "4Mi")], "containers": [limited("a", "1Mi"), limited("b", "2Mi")]}}))
        .expect("a pod");
        assert_eq!(total_limit(&pod), Some((4 << 20, "4Mi".to_owned())));
        let usage = |name: &str, size: u64| Usage {
            containers: BTreeMap::from([(name.to_owned(), kib(size))]),
            volumes: BTreeMap::new(),
        };
        assert_eq!(excess(&pod, &usage("first", 4096)), None);
        let (signal, _) = excess(&pod, &usage("first", 4097)).expect("more than the pod may take");
        assert_eq!(signal, "ephemeralpodfs.limit");
        let (signal, _) = excess(&pod, &usage("a", 1025)).expect("more than the container may take");
        assert_eq!(signal, "ephemeralcontainerfs.limit");
    }
}
