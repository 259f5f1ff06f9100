//! A container's environment: services, `envFrom`, `env`, in upstream's order of precedence.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use super::{
    env_file,
    expansion::expand,
    field_reference::{self, PodFacts},
    resource_reference::{self, Allocatable},
};
use crate::volumes::EnvFiles;

/// The ConfigMaps and Secrets of the pod's namespace that were fetched for it; a name that was asked for
/// and does not exist is absent.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// By name.
    pub config_maps: BTreeMap<String, std::sync::Arc<ConfigMap>>,
    /// By name.
    pub secrets: BTreeMap<String, std::sync::Arc<Secret>>,
}

/// Names that a container's environment refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// ConfigMaps.
    pub config_maps: Vec<String>,
    /// Secrets.
    pub secrets: Vec<String>,
}

/// What has to be fetched before [`build`].
pub fn wanted(container: &Container) -> Wanted {
    let mut out = Wanted::default();
    let add = |list: &mut Vec<String>, name: &str| {
        if !list.iter().any(|n| n == name) {
            list.push(name.to_owned());
        }
    };
    for source in container.env_from.iter().flatten() {
        if let Some(r) = &source.config_map_ref {
            add(&mut out.config_maps, &r.name);
        }
        if let Some(r) = &source.secret_ref {
            add(&mut out.secrets, &r.name);
        }
    }
    for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        if let Some(r) = &source.config_map_key_ref {
            add(&mut out.config_maps, &r.name);
        }
        if let Some(r) = &source.secret_key_ref {
            add(&mut out.secrets, &r.name);
        }
    }
    out
}

/// What [`build`] reads beside the container.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub facts: &'a PodFacts,
    /// ConfigMaps and Secrets.
    pub references: &'a References,
    /// Variables of services (see [`super::service_environment`]).
    pub services: &'a [(String, String)],
    /// Files of variables.
    pub files: &'a EnvFiles,
    /// What limits fall back to.
    pub node: Allocatable,
}

/// The variables in order, each name once. Errors are the kubelet's `CreateContainerConfigError` messages.
pub fn build(container: &Container, inputs: &Inputs<'_>) -> Result<Vec<(String, String)>, String> {
    let namespace = inputs.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut result = Variables::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &source.config_map_ref {
            match inputs.references.config_maps.get(&r.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        result.set_if_legal(prefix, key, value.clone());
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", r.name)),
            }
        }
        if let Some(r) = &source.secret_ref {
            match inputs.references.secrets.get(&r.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        result.set_if_legal(prefix, key, String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", r.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                let services = inputs.services;
                expand(value, |name| {
                    result.get(name).or_else(|| services.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()))
                })
            }
            (_, Some(source)) => match from_source(source, container, inputs, namespace)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        result.set(&variable.name, value);
    }
    for (name, value) in inputs.services {
        if result.get(name).is_none() {
            result.set(name, value.clone());
        }
    }
    Ok(result.list)
}

fn from_source(
    source: &EnvVarSource,
    container: &Container,
    inputs: &Inputs<'_>,
    namespace: &str,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return field_reference::value(inputs.pod, inputs.facts, &field.field_path)
            .map(Some)
            .ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path));
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource_reference::value(inputs.pod, Some(container), selector, inputs.node).map(Some);
    }
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional == Some(true);
        let Some(map) = inputs.references.config_maps.get(&r.name) else {
            return if optional { Ok(None) } else { Err(format!("configmap {:?} not found", r.name)) };
        };
        return match map.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", r.key, r.name)),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional == Some(true);
        let Some(secret) = inputs.references.secrets.get(&r.name) else {
            return if optional { Ok(None) } else { Err(format!("secret {:?} not found", r.name)) };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {namespace}/{}", r.key, r.name)),
        };
    }
    if let Some(r) = &source.file_key_ref {
        let path = (r.volume_name.clone(), r.path.clone());
        let Some(file) = inputs.files.get(&path) else {
            return Err(format!("cannot find the volume {:?} referenced by FileKeyRef", r.volume_name));
        };
        let value = file.as_ref().and_then(|text| env_file::value(text, &r.key).ok());
        return match value.ok_or("couldn't parse env file")? {
            value if !value.is_empty() => Ok(Some(value)),
            _ if r.optional == Some(true) => Ok(None),
            _ => Err(format!("environment variable key {:?} not found in file {:?}", r.key, r.path)),
        };
    }
    Ok(Some(String::new()))
}

/// Lays the pod's variables over the image's `NAME=value` list.
pub fn over_image(image: &[String], pod: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut result = Variables::default();
    for entry in image {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        result.set(name, value.to_owned());
    }
    for (name, value) in pod {
        result.set(&name, value);
    }
    result.list
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.list.iter_mut().find(|(k, _)| k == name) {
            Some((_, old)) => *old = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }

    /// Keys of `envFrom` that can't name a variable are left out, as upstream does.
    fn set_if_legal(&mut self, prefix: &str, key: &str, value: String) {
        let name = format!("{prefix}{key}");
        if !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
            self.set(&name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn build_for(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}})).expect("a pod");
        let container: Container = serde_json::from_value(container).expect("a container");
        let mut references = References::default();
        let map = json!({"metadata": {"name": "cm"}, "data": {"k": "v", "bad=key": "x"}});
        references.config_maps.insert("cm".into(), Arc::new(serde_json::from_value(map).expect("a map")));
        let secret = json!({"metadata": {"name": "s"}, "data": {"p": "aGk="}});
        references.secrets.insert("s".into(), Arc::new(serde_json::from_value(secret).expect("a secret")));
        let services = [("SVC_SERVICE_HOST".to_owned(), "10.0.0.9".to_owned()), ("A".to_owned(), "svc".to_owned())];
        let inputs = Inputs {
            pod: &pod,
            facts: &PodFacts::default(),
            references: &references,
            services: &services,
            files: &EnvFiles::from([
                (("data".into(), "a.env".into()), Some("A='1'".into())),
                (("data".into(), "none".into()), None),
            ]),
            node: Allocatable::default(),
        };
        build(&container, &inputs)
    }

    #[test]
    fn sources_are_laid_over_each_other_in_upstreams_order() {
        let got = build_for(json!({"name": "c",
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(X_k)-$(SVC_SERVICE_HOST)-$(NOPE)-$(LATER)"},
            {"name": "LATER", "value": "z"},
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
            {"name": "E"}
        ]}))
        .expect("an environment");
        let expected = [
            ("X_k", "v"),
            ("p", "hi"),
            ("A", "1"),
            ("B", "1-v-10.0.0.9-$(NOPE)-$(LATER)"),
            ("LATER", "z"),
            ("P", "hi"),
            ("N", "web"),
            ("E", ""),
            ("SVC_SERVICE_HOST", "10.0.0.9"),
        ];
        assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let of = |env: serde_json::Value| build_for(json!({"name": "c", "env": [env]})).expect_err("an error");
        let key =
            |kind: &str, name: &str, key: &str| json!({"name": "A", "valueFrom": {kind: {"name": name, "key": key}}});
        assert_eq!(of(key("configMapKeyRef", "gone", "k")), "configmap \"gone\" not found");
        assert_eq!(of(key("secretKeyRef", "gone", "k")), "secret \"gone\" not found");
        assert_eq!(of(key("configMapKeyRef", "cm", "x")), "couldn't find key x in ConfigMap ns/cm");
        assert_eq!(of(key("secretKeyRef", "s", "x")), "couldn't find key x in Secret ns/s");
        let file = |volume: &str, path: &str, key: &str, optional: bool| {
            json!({"name": "A", "valueFrom": {"fileKeyRef":
                {"volumeName": volume, "path": path, "key": key, "optional": optional}}})
        };
        assert_eq!(of(file("gone", "a.env", "A", true)), "cannot find the volume \"gone\" referenced by FileKeyRef");
        assert_eq!(of(file("data", "none", "A", true)), "couldn't parse env file");
        assert_eq!(of(file("data", "a.env", "B", false)), "environment variable key \"B\" not found in file \"a.env\"");
        let env = json!([file("data", "a.env", "A", false), file("data", "a.env", "B", true)]);
        let got = build_for(json!({"name": "c", "env": env})).expect("an environment");
        assert!(got.contains(&("A".to_owned(), "1".to_owned())), "{got:?}");
        let from = build_for(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}));
        assert_eq!(from, Err("configmap \"gone\" not found".into()));
    }

    #[test]
    fn the_pod_overrides_the_image() {
        let got =
            over_image(&["PATH=/bin".into(), "A=1".into()], vec![("A".into(), "2".into()), ("B".into(), "3".into())]);
        assert_eq!(got, [("PATH", "/bin"), ("A", "2"), ("B", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
