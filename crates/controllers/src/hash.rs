//! Names made from a pod template: of ReplicaSets (`pod-template-hash`) and of ControllerRevisions.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that tells the pods of one template from those of another.
pub const LABEL: &str = "pod-template-hash";

/// No vowels and no lookalikes, so that no bad word can appear (upstream's `rand.SafeEncodeString`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Of a template and the collision count. The same template always gives the same text.
pub fn of(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    digest(&serde_json::to_vec(template).expect("a pod template is always JSON"), collisions)
}

/// FNV-1a of the bytes and the collision count.
pub fn digest(bytes: &[u8], collisions: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    bytes.iter().copied().for_each(&mut feed);
    collisions.into_iter().flat_map(i32::to_le_bytes).for_each(&mut feed);
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// Whether two templates are the same but for the hash label.
pub fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let metadata = template.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.remove(LABEL);
        metadata.creation_timestamp = None;
        template
    };
    bare(a) == bare(b)
}
