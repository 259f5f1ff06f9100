//! From a file to a pod, as the kubelet completes it (`pkg/kubelet/config/common.go`).

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Declared;

/// What a static pod was made from.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// The same, of the pod that a mirror shows.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// Whether a pod comes from a file.
pub fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.get(CONFIG_SOURCE).is_some_and(|s| s == "file") && !a.contains_key(CONFIG_MIRROR))
}

/// What the API is to show for it.
pub fn mirror_of(pod: &Pod, node: Option<&Node>) -> Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    mirror.metadata.deletion_timestamp = None;
    mirror.status = None;
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    let hash = annotations.get(CONFIG_HASH).cloned().unwrap_or_default();
    annotations.insert(CONFIG_MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = node.map(|node| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.metadata.name.clone().unwrap_or_default(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    mirror
}

/// What was read before: a file that can't be read any more keeps what it said.
#[derive(Default)]
pub struct Known {
    files: HashMap<std::path::PathBuf, Arc<Pod>>,
}

impl Known {
    /// Reads the directory. A file that says nothing sensible is told of and left out.
    pub fn read(&mut self, dir: &Path, node_name: &str) -> Declared {
        let mut paths: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.is_file() && !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
        paths.sort();
        let mut declared = Declared::new();
        let mut files = HashMap::new();
        for path in paths {
            let read = fs::read(&path).map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes, &path, node_name));
            let pod = match read {
                Ok(pod) => match self.files.get(&path).filter(|old| old.metadata.uid == pod.metadata.uid) {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(pod),
                },
                Err(error) => {
                    tracing::warn!(file = %path.display(), error, "the manifest of a static pod can't be used");
                    continue;
                }
            };
            let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
            let key = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
            files.insert(path.clone(), Arc::clone(&pod));
            if declared.contains_key(&key) {
                tracing::warn!(file = %path.display(), pod = key, "another manifest declares a static pod of that name");
                continue;
            }
            declared.insert(key, pod);
        }
        self.files = files;
        declared
    }
}

/// A whole pod; the error is for people.
fn parse(bytes: &[u8], path: &Path, node_name: &str) -> Result<Pod, String> {
    let mut value: Value = serde_yaml_ng::from_slice(bytes).map_err(|e| e.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("it declares no v1 Pod".to_owned());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("metadata.name: Required value".to_owned());
    }
    let hash = hash(bytes, path, node_name);
    let meta = &mut value["metadata"];
    if meta["uid"].as_str().unwrap_or_default().is_empty() {
        meta["uid"] = hash.clone().into();
    }
    meta["name"] = format!("{name}-{}", node_name.to_lowercase()).into();
    if meta["namespace"].as_str().unwrap_or_default().is_empty() {
        meta["namespace"] = "default".into();
    }
    if !meta["annotations"].is_object() {
        meta["annotations"] = json!({});
    }
    meta["annotations"][CONFIG_SOURCE] = "file".into();
    meta["annotations"][CONFIG_HASH] = hash.into();
    meta["annotations"][CONFIG_SEEN] = Timestamp::now().to_string().into();
    meta["generation"] = 1.into();
    if !value["spec"].is_object() {
        return Err("spec: Required value".to_owned());
    }
    // Static pods stay whatever the node's taints say.
    let tolerations = value["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    value["spec"]["tolerations"] =
        tolerations.into_iter().chain([json!({"operator": "Exists", "effect": "NoExecute"})]).collect();
    value["spec"]["nodeName"] = node_name.into();
    let strategy = &api::strategy::pod::POD;
    (strategy.default)(&mut value);
    let faults = (strategy.validate)(&value);
    if !faults.is_empty() {
        let all: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
        return Err(all.join(", "));
    }
    references(&value)?;
    value["status"] = json!({"phase": "Pending"});
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// A static pod can't depend on what the API has (upstream's `podHasAPIReferences`).
fn references(pod: &Value) -> Result<(), String> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|s| !s.is_empty()) {
        return Err("static pods may not reference serviceaccounts".to_owned());
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for (field, kind) in
            [("configMap", "configmaps"), ("secret", "secrets"), ("persistentVolumeClaim", "persistentvolumeclaims")]
        {
            if volume[field].is_object() {
                return Err(format!("static pods may not reference {kind}"));
            }
        }
    }
    Ok(())
}

/// An identity that stays while the file says the same.
fn hash(bytes: &[u8], path: &Path, node_name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [node_name.as_bytes(), path.as_os_str().as_encoded_bytes(), bytes] {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'a:1'}]}\n";

    #[test]
    fn a_manifest_becomes_a_whole_pod_of_this_node() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("web.yaml"), POD).expect("written");
        fs::write(dir.path().join(".hidden.yaml"), POD).expect("written");
        fs::write(
            dir.path().join("bad.yaml"),
            "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: []}\n",
        )
        .expect("written");
        let refers = POD.replace("spec: {", "spec: {volumes: [{name: v, secret: {secretName: s}}], ");
        fs::write(dir.path().join("refers.yaml"), refers.replace("web", "refers")).expect("written");
        let mut known = Known::default();
        let declared = known.read(dir.path(), "node");
        assert_eq!(declared.keys().collect::<Vec<_>>(), ["default/web-node"]);
        let pod = &declared["default/web-node"];
        assert!(is_static(pod));
        let spec = pod.spec.as_ref().expect("a spec");
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("node"), Some("Always")));
        let again = known.read(dir.path(), "node");
        assert!(Arc::ptr_eq(pod, &again["default/web-node"]));
        fs::write(dir.path().join("web.yaml"), POD.replace("a:1", "a:2")).expect("written");
        assert_ne!(known.read(dir.path(), "node")["default/web-node"].metadata.uid, pod.metadata.uid);
        let mirror = mirror_of(pod, None);
        assert!(!is_static(&mirror) && mirror.metadata.uid.is_none());
        assert_eq!(mirror.metadata.annotations.expect("some").get(CONFIG_MIRROR), pod.metadata.uid.as_ref());
    }
}
