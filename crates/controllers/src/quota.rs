//! ResourceQuota: writes how much of each quota is used. Refusing what would exceed it is the API server's part.

use std::{collections::BTreeMap, sync::Arc};

use api::{
    quantity::{Format, Quantity},
    quota::{self, Amounts},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
    core::ApiResource,
    discovery::{Discovery, Scope},
};
use serde_json::Value;
use tokio::{sync::OnceCell, task::JoinSet};

use crate::{
    Error, Shared,
    error::gone_is_fine,
    garbage::Comings,
    informer::{self, Change, Informer},
    pods,
    queue::{Key, Queue},
};

struct Controller {
    shared: Shared,
    quotas: Informer<ResourceQuota>,
    queue: Queue,
    resources: OnceCell<Vec<ApiResource>>,
}

pub(crate) async fn run(shared: Shared, comings: Comings) {
    let mut tasks = JoinSet::new();
    let quotas: Informer<ResourceQuota> = Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.services.synced().await;
    quotas.synced().await;
    let on_quota = queue.clone();
    quotas.listen(move |change| on_quota.add(Key::of(&**change.object())));
    let tell = |queue: &Queue| {
        let (queue, quotas) = (queue.clone(), quotas.clone());
        move |namespace: &str| quotas.in_namespace(namespace).iter().for_each(|q| queue.add(Key::of(&**q)))
    };
    let on_any = tell(&queue);
    comings.listen(on_any);
    let on_pod = tell(&queue);
    shared.pods.listen(move |change| {
        let same = |a: &Pod, b: &Pod| pods::is_terminal(a) == pods::is_terminal(b) && a.spec == b.spec;
        if !matches!(&change, Change::Applied { old: Some(old), new } if same(old, new)) {
            on_pod(&change.object().namespace().unwrap_or_default());
        }
    });
    let on_service = tell(&queue);
    shared.services.listen(move |change| on_service(&change.object().namespace().unwrap_or_default()));
    let controller = Arc::new(Controller { shared, quotas, queue: queue.clone(), resources: OnceCell::new() });
    queue.work("resourcequota", 4, |key| controller.clone().reconcile(key)).await;
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(quota) = self.quotas.get(&key).filter(|q| q.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        let spec = quota.spec.clone().unwrap_or_default();
        let hard = spec.hard.clone().unwrap_or_default();
        let now = Timestamp::now();
        let seen = self.shared.pods.in_namespace(&key.namespace);
        let mut used = self.used(&key.namespace, &spec, &hard, seen.iter().map(|pod| &**pod), now).await?;
        if quota.status.as_ref().and_then(|s| s.used.as_ref()).is_some_and(|before| *before != used) {
            // What the server has charged for a pod may be ahead of what is seen of the pod here: ask before
            // anything is given back.
            let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &key.namespace);
            let listed = pods.list(&ListParams::default()).await?;
            used = self.used(&key.namespace, &spec, &hard, listed.iter(), now).await?;
        }
        if let Some(wait) = self.next_overdue(&key.namespace, now) {
            self.queue.add_after(key.clone(), wait);
        }
        let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        if quota.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = ResourceQuota::clone(&quota);
        changed.status = Some(status);
        let api: Api<ResourceQuota> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &changed).await)
    }

    async fn used<'a>(
        &self,
        namespace: &str,
        spec: &ResourceQuotaSpec,
        hard: &BTreeMap<String, Text>,
        pods: impl Iterator<Item = &'a Pod>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Text>, Error> {
        let scopes = tree(spec)?;
        let mut total = Amounts::new();
        let mut count = |plural: &str, object: &Value| {
            if quota::covers(&scopes, "", plural, object) {
                quota::add(&mut total, quota::usage("", plural, object, now));
            }
        };
        let of_pods = hard.keys().any(|name| !name.starts_with("count/") || name == "count/pods");
        for pod in pods.filter(|_| of_pods) {
            count("pods", &tree(pod)?);
        }
        for service in self.shared.services.in_namespace(namespace) {
            count("services", &tree(&*service)?);
        }
        if hard.keys().any(|name| name.contains("persistentvolumeclaims") || name.ends_with("requests.storage")) {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.shared.client.clone(), namespace);
            for claim in api.list(&ListParams::default()).await? {
                count("persistentvolumeclaims", &tree(&claim)?);
            }
        }
        let zero = Quantity::new(0, Format::DecimalSi);
        for name in hard.keys() {
            if !total.contains_key(name)
                && !quota::is_scoped(&scopes)
                && let Some(count) = self.count(namespace, name).await?
            {
                total.insert(name.clone(), Quantity::new(count, Format::DecimalSi));
            }
        }
        let each = hard.keys().map(|name| (name.clone(), Text(total.get(name).unwrap_or(&zero).to_string())));
        Ok(each.collect())
    }

    /// How many objects there are of the kind that a quota names: `count/deployments.apps`, or one of the few that
    /// need no prefix.
    async fn count(&self, namespace: &str, name: &str) -> Result<Option<i64>, Error> {
        const PLAIN: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
        let Some(name) = name.strip_prefix("count/").or(PLAIN.contains(&name).then_some(name)) else { return Ok(None) };
        let (plural, group) = name.split_once('.').unwrap_or((name, ""));
        let resources = self.resources.get_or_try_init(|| self.discover()).await?;
        let Some(resource) = resources.iter().find(|r| r.plural == plural && r.group == group) else { return Ok(None) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.shared.client.clone(), namespace, resource);
        Ok(Some(api.list_metadata(&ListParams::default()).await?.items.len() as i64))
    }

    async fn discover(&self) -> Result<Vec<ApiResource>, Error> {
        let discovery = Discovery::new(self.shared.client.clone()).run_aggregated().await?;
        let all = discovery.groups().flat_map(|group| group.recommended_resources());
        Ok(all.filter(|(_, c)| c.scope == Scope::Namespaced).map(|(resource, _)| resource).collect())
    }

    /// When the next pod is overdue to be gone, which no event tells.
    fn next_overdue(&self, namespace: &str, now: Timestamp) -> Option<std::time::Duration> {
        let pods = self.shared.pods.in_namespace(namespace);
        let ends = pods.iter().filter(|p| !pods::is_terminal(p)).filter_map(|p| p.metadata.deletion_timestamp.as_ref());
        let left = ends.filter_map(|t| std::time::Duration::try_from(t.0.duration_since(now)).ok());
        left.min().map(|wait| wait + std::time::Duration::from_secs(1))
    }
}

fn tree<T: serde::Serialize>(object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|error| Error::Object(error.to_string()))
}
