//! Where a pod's things lie below the data directory, in the kubelet's layout.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::logs::links::LogPlaces;

/// Paths of one pod.
#[derive(Clone, Debug)]
pub struct PodPaths {
    /// `pods/UID`
    pub root: PathBuf,
    /// Like `root`, for what must not reach a disk.
    pub memory: PathBuf,
    /// `NAMESPACE_NAME_UID` where the logs are.
    pub logs: PathBuf,
    /// Where links to its logs are, if anywhere.
    pub log_links: Option<PathBuf>,
}

impl PodPaths {
    /// Of `pod` below `data_dir` and, where there is one, the memory file system.
    pub fn new(data_dir: &Path, memory: Option<&Path>, places: &LogPlaces, pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let uid = meta.uid.as_deref().unwrap_or_default();
        Self {
            root: data_dir.join("pods").join(uid),
            memory: memory.map_or_else(|| data_dir.join("pods"), Path::to_path_buf).join(uid),
            logs: places.of_pod(namespace, name, uid),
            log_links: places.links.clone(),
        }
    }

    /// What survives the agent.
    pub fn record(&self) -> PathBuf {
        self.root.join("record.json")
    }

    /// A volume of a kind such as `configmap` or `empty-dir`. As upstream, all that may hold a secret is in memory.
    pub fn volume(&self, kind: &str, name: &str) -> PathBuf {
        let root = if matches!(kind, "secret" | "projected" | "downward-api") { &self.memory } else { &self.root };
        root.join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// The directories that hold its volumes.
    pub fn volumes(&self) -> [PathBuf; 2] {
        [self.root.join("volumes"), self.memory.join("volumes")]
    }

    /// Where the sub paths that one attempt of a container mounts are bound.
    pub fn sub_paths(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("sub-paths").join(format!("{container}.{attempt}"))
    }

    /// The pod's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    pub fn etc(&self, file: &str) -> PathBuf {
        self.root.join("etc").join(file)
    }

    /// The file a container writes its last words to.
    pub fn termination_message(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("containers").join(container).join(attempt.to_string())
    }

    /// Where what one attempt of a container writes to its image's volumes lies.
    pub fn image_volumes(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("volumes/hythe~image").join(format!("{container}.{attempt}"))
    }

    /// The log of one attempt of a container.
    pub fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.logs.join(container).join(format!("{attempt}.log"))
    }
}
