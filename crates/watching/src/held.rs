//! An object on its way from a watch to who follows it.

use std::{borrow::Cow, ops::Deref, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// An object that lies where it was decoded: each of the dozen streams between the socket and who follows the watch
/// hands on a pointer, where an object such as a Pod is some kilobytes without what it points to.
/// Ask for it by the type of the API: `Api<Held<Pod>>`.
#[derive(Clone, Debug)]
pub struct Held<K>(Arc<K>);

impl<K> Held<K> {
    /// The object itself, for whoever keeps it.
    #[must_use]
    pub fn shared(self) -> Arc<K> {
        self.0
    }
}

impl<K: Clone> Held<K> {
    /// To change it before anyone shares it.
    pub fn to_mut(&mut self) -> &mut K {
        Arc::make_mut(&mut self.0)
    }
}

impl<K> Deref for Held<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Held<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(deserializer).map(|object| Held(Arc::new(object)))
    }
}

impl<K: Resource + Clone> Resource for Held<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.to_mut().meta_mut()
    }
}
