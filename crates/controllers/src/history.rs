//! ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, for rolling back and for telling
//! pods of one template from those of another.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::runtime::RawExtension,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::Selector,
};
use serde_json::{Value, json};

use crate::{
    Error,
    claim::{Claim, Namespaced},
    error::gone_is_fine,
    hash,
    informer::Informer,
    ownership::{controller_reference, is_controlled_by},
};

/// The longest owner's name that goes into a revision's.
const LONGEST: usize = 223;

/// The revisions of an owner.
pub struct History<'a, O> {
    pub client: &'a Client,
    pub owner: &'a O,
    pub selector: &'a Selector,
    pub revisions: &'a Informer<ControllerRevision>,
    /// The label of a revision that bears its hash.
    pub label: &'static str,
}

/// A template's revision, and all revisions that there are, this one among them.
pub struct Found {
    pub update: Arc<ControllerRevision>,
    /// By revision, the oldest first.
    pub all: Vec<Arc<ControllerRevision>>,
    /// `status.collisionCount` from now on.
    pub collisions: Option<i32>,
}

impl<O: Namespaced> History<'_, O> {
    /// Finds the revision of the template, and makes it the newest; makes it if there is none.
    pub async fn of(&self, template: &PodTemplateSpec, mut collisions: Option<i32>) -> Result<Found, Error> {
        let claim = Claim {
            client: self.client,
            owner: self.owner,
            selector: self.selector,
            objects: self.revisions,
            finalizer: None,
        };
        let mut all = claim.all(|_| true).await?;
        sort(&mut all);
        let data = data_of(template);
        let same = |r: &ControllerRevision| r.data.as_ref().is_some_and(|d| d.0 == data);
        let next = all.last().map_or(1, |last| last.revision + 1);
        let update = match all.iter().rposition(|r| same(r)) {
            Some(index) if index + 1 == all.len() => all[index].clone(),
            Some(index) => {
                // Rolled back: an old template is the newest again.
                let patch = Patch::Merge(json!({"metadata": {"uid": all[index].uid()}, "revision": next}));
                let newest = Arc::new(self.api().patch(&all[index].name_any(), &PatchParams::default(), &patch).await?);
                all.remove(index);
                all.push(newest.clone());
                newest
            }
            None => {
                let made = Arc::new(self.make(template, &data, next, &mut collisions).await?);
                if all.iter().all(|r| r.uid() != made.uid()) {
                    all.push(made.clone());
                }
                made
            }
        };
        Ok(Found { update, all, collisions })
    }

    async fn make(
        &self,
        template: &PodTemplateSpec,
        data: &Value,
        revision: i64,
        collisions: &mut Option<i32>,
    ) -> Result<ControllerRevision, Error> {
        let bytes = serde_json::to_vec(data).expect("a JSON value is always JSON");
        loop {
            let digest = hash::digest(&bytes, *collisions);
            let owner = self.owner.name_any();
            let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
            labels.insert(self.label.into(), digest.clone());
            let fresh = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{digest}", &owner[..owner.len().min(LONGEST)])),
                    labels: Some(labels),
                    annotations: Some(self.owner.annotations().clone()).filter(|a| !a.is_empty()),
                    owner_references: Some(vec![controller_reference(self.owner)]),
                    ..ObjectMeta::default()
                },
                data: Some(RawExtension(data.clone())),
                revision,
            };
            match self.api().create(&PostParams::default(), &fresh).await.map_err(Error::from) {
                Err(error) if error.is_already_exists() => {
                    let there = self.api().get(&fresh.name_any()).await?;
                    if is_controlled_by(&there, self.owner) && there.data == fresh.data {
                        return Ok(there);
                    }
                    // Another template has the same hash.
                    *collisions = Some(collisions.unwrap_or(0) + 1);
                }
                other => return other,
            }
        }
    }

    /// Deletes the oldest revisions beyond the limit; those in `live` stay and do not count.
    pub async fn truncate(
        &self,
        all: &[Arc<ControllerRevision>],
        live: &HashSet<String>,
        limit: i32,
    ) -> Result<(), Error> {
        let doomed = superfluous(all, live, limit);
        let results = join_all(doomed.into_iter().map(|revision| async move {
            let params =
                DeleteParams::default().preconditions(Preconditions { uid: revision.uid(), resource_version: None });
            gone_is_fine(self.api().delete(&revision.name_any(), &params).await)
        }))
        .await;
        results.into_iter().collect()
    }

    fn api(&self) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), &self.owner.namespace().unwrap_or_default())
    }
}

/// The revision of that name.
pub fn named<'a>(all: &'a [Arc<ControllerRevision>], name: &str) -> Option<&'a Arc<ControllerRevision>> {
    all.iter().find(|r| r.metadata.name.as_deref() == Some(name))
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The patch that gives an owner this template (what `kubectl rollout undo` applies). Its bytes are upstream's, keys in
/// order, because clients compare them to tell which revision an owner is at.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("a pod template is always JSON");
    template["$patch"] = "replace".into();
    template.sort_all_objects();
    json!({"spec": {"template": template}})
}

fn sort(all: &mut [Arc<ControllerRevision>]) {
    all.sort_by(|a, b| {
        let key = |r: &ControllerRevision| (r.revision, r.metadata.creation_timestamp.clone(), r.name_any());
        key(a).cmp(&key(b))
    });
}

fn superfluous<'a>(
    all: &'a [Arc<ControllerRevision>],
    live: &HashSet<String>,
    limit: i32,
) -> Vec<&'a Arc<ControllerRevision>> {
    let history: Vec<_> = all.iter().filter(|r| !live.contains(&r.name_any())).collect();
    let surplus = history.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    history.into_iter().take(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_gives_its_template_back() {
        let template: PodTemplateSpec = serde_json::from_value(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}),
        )
        .unwrap();
        let data = data_of(&template);
        let bytes = r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c"}]}}}}"#;
        assert_eq!(data.to_string(), bytes, "what upstream's clients compare");
        let revision = ControllerRevision { data: Some(RawExtension(data)), ..ControllerRevision::default() };
        assert_eq!(template_of(&revision), Some(template));
    }

    #[test]
    fn the_oldest_revisions_that_nothing_uses_go() {
        let revision = |name: &str, number: i64| {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            Arc::new(ControllerRevision { metadata, revision: number, ..ControllerRevision::default() })
        };
        let all = [revision("a", 1), revision("b", 2), revision("c", 3), revision("d", 4)];
        let live = HashSet::from(["d".to_owned(), "a".to_owned()]);
        let names: Vec<_> = superfluous(&all, &live, 1).iter().map(|r| r.name_any()).collect();
        assert_eq!(names, ["b"]);
    }
}
