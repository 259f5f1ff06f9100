//! An image's layers as its manifest lists them.

use std::collections::BTreeMap;

use engine::content::{Content, Digest, Image};
use serde::Deserialize;

/// A layer's blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerBlob {
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub media_type: String,
}

/// What of a manifest matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manifest {
    layers: Vec<LayerBlob>,
}

/// The layers of an image, lowest first; none if its manifest cannot be read.
pub(crate) fn layers(content: &Content, image: &Image) -> Vec<LayerBlob> {
    let bytes = content.read_blob(&image.manifest).unwrap_or_default();
    serde_json::from_slice::<Manifest>(&bytes).unwrap_or_default().layers
}

/// The bytes of all layers of some images, each counted once.
pub(crate) fn layers_size(content: &Content, images: &[Image]) -> u64 {
    let layers = images.iter().flat_map(|image| layers(content, image));
    layers.map(|layer| (layer.digest, layer.size)).collect::<BTreeMap<_, _>>().into_values().sum()
}

impl LayerBlob {
    /// Its digest, checked.
    pub fn parsed(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }
}
