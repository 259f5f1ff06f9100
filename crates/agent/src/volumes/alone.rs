//! Volumes that one pod alone may have (`ReadWriteOncePod`). The scheduler sees to that; this is for pods that came past it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::ResourceExt;
use parking_lot::Mutex;

use super::VolumeError;

/// Who has which of them: uids of pods by names of PersistentVolumes.
#[derive(Default)]
pub struct Singles(Arc<Mutex<BTreeMap<String, String>>>);

/// Dropping it gives the volume back.
pub struct Alone {
    all: Singles,
    volume: String,
}

impl Singles {
    /// Takes the volume for the pod, if it is such a one. Fails while another pod of the node has it.
    pub fn take(&self, volume: &PersistentVolume, pod: &Pod) -> Result<Option<Alone>, VolumeError> {
        let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
        if modes != ["ReadWriteOncePod"] {
            return Ok(None);
        }
        let (name, uid) = (volume.name_any(), pod.uid().unwrap_or_default());
        let mut all = self.0.lock();
        if all.get(&name).is_some_and(|has| *has != uid) {
            let message =
                "volume uses the ReadWriteOncePod access mode and is already in use by another pod".to_owned();
            return Err(VolumeError::SetUp { volume: name, message });
        }
        all.insert(name.clone(), uid);
        Ok(Some(Alone { all: Self(Arc::clone(&self.0)), volume: name }))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_for_one_pod_is_had_by_one_at_a_time() {
        let volume = |modes: &[&str]| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {"accessModes": modes}}))
                .expect("a volume")
        };
        let pod = |uid: &str| -> Pod { serde_json::from_value(json!({"metadata": {"uid": uid}})).expect("a pod") };
        let singles = Singles::default();
        let alone = singles.take(&volume(&["ReadWriteOncePod"]), &pod("a")).expect("free");
        assert!(alone.is_some());
        let refused = singles.take(&volume(&["ReadWriteOncePod"]), &pod("b")).map(drop).expect_err("taken");
        assert!(refused.to_string().ends_with("already in use by another pod"), "{refused}");
        assert!(singles.take(&volume(&["ReadWriteOnce"]), &pod("b")).expect("for all").is_none());
        drop(alone);
        assert!(singles.take(&volume(&["ReadWriteOncePod"]), &pod("b")).expect("free again").is_some());
    }
}
