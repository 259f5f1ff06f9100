//! ConfigMaps and Secrets as files: all keys, or the listed ones at their own paths. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret};

use super::content::{Content, File, mode};

/// A ConfigMap's or Secret's data as bytes.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Why there are no files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such key.
    NoKey(String),
    /// The path is none that stays inside the volume; in words.
    Path(String),
}

impl Fault {
    /// In upstream's words.
    pub fn of_config_map(self) -> String {
        match self {
            Self::NoKey(key) => format!("configmap references non-existent config key: {key}"),
            Self::Path(why) => why,
        }
    }

    /// In upstream's words.
    pub fn of_secret(self) -> String {
        match self {
            Self::NoKey(key) => format!("references non-existent secret key: {key}"),
            Self::Path(why) => why,
        }
    }
}

/// The data of a ConfigMap.
pub fn of_config_map(map: &ConfigMap) -> Data {
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    text.chain(binary).collect()
}

/// The data of a Secret.
pub fn of_secret(secret: &Secret) -> Data {
    secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
}

/// The files; a listed key that does not exist is an error unless the source is optional.
pub fn project(
    data: &Data,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Content, Fault> {
    let file =
        |bytes: &Vec<u8>, own: Option<i32>| File { bytes: bytes.clone(), mode: mode(own, default_mode), owner: None };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data.iter().map(|(key, bytes)| (key.clone(), file(bytes, None))).collect());
    };
    let mut out = Content::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                out.insert(legal_path(&item.path).map_err(Fault::Path)?, file(bytes, item.mode));
            }
            None if optional => {}
            None => return Err(Fault::NoKey(item.key.clone())),
        }
    }
    Ok(out)
}

/// A relative path that stays inside the volume.
pub fn legal_path(path: &str) -> Result<String, String> {
    let path = path.trim_start_matches("./");
    if path.is_empty() || path.starts_with('/') {
        return Err(format!("invalid path {path:?}: must be relative"));
    }
    if path.split('/').any(|part| part == "..") || path.starts_with("..") {
        return Err(format!("invalid path {path:?}: must not contain '..'"));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_files_with_their_paths_and_modes() {
        let data = Data::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]);
        let all = project(&data, None, Some(0o600), false).expect("files");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["a"].mode, 0o600);
        let item = |key: &str, path: &str, mode| KeyToPath { key: key.into(), path: path.into(), mode };
        let one = project(&data, Some(&[item("b", "x/y", Some(0o400))]), None, false).expect("files");
        assert_eq!((one.len(), one["x/y"].mode, one["x/y"].bytes.as_slice()), (1, 0o400, &b"2"[..]));
        let missing = [item("z", "z", None)];
        let fault = project(&data, Some(&missing), None, false).err().expect("no such key");
        assert_eq!(fault.clone().of_config_map(), "configmap references non-existent config key: z");
        assert_eq!(fault.of_secret(), "references non-existent secret key: z");
        assert!(project(&data, Some(&missing), None, true).is_ok_and(|c| c.is_empty()));
        for path in ["/abs", "../up", "a/../b", ""] {
            assert!(project(&data, Some(&[item("a", path, None)]), None, false).is_err(), "{path}");
        }
    }
}
