//! Classes.

use k8s_openapi::api::storage::v1::StorageClass;

/// The provisioner of directories on the nodes' own disks.
pub const LOCAL_PROVISIONER: &str = "hythe.dev/local";
/// The provisioner of classes whose volumes people make.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Whether claims of the class are bound only once a pod wants them.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}
