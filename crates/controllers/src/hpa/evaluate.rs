//! One metric of an autoscaler: asked for, compared with its target, and shown in the status.

use std::{collections::BTreeMap, sync::Arc};

use api::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            ContainerResourceMetricStatus, ExternalMetricStatus, MetricSpec, MetricStatus, MetricTarget,
            MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
        },
        core::v1::{Container, Pod},
    },
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::LabelSelector},
};
use kube::{ResourceExt, core::GroupVersionKind, discovery::oneshot};

use super::{
    metrics::Metrics,
    usage::{Proposal, Target, Unknown, propose, propose_by_value},
};
use crate::{Error, pods};

/// What is scaled, at a moment.
pub struct Scaled<'a> {
    pub metrics: Metrics<'a>,
    pub selector: &'a str,
    pub pods: &'a [Arc<Pod>],
    pub current: i32,
    pub now: Timestamp,
}

/// What one metric calls for.
pub struct Opinion {
    pub replicas: i32,
    /// In words, for events and conditions.
    pub metric: String,
    pub status: MetricStatus,
}

/// Why a metric says nothing: a reason for the condition, the words, and what could not be had.
pub struct Silent {
    pub reason: &'static str,
    pub message: String,
    pub value: String,
}

impl Scaled<'_> {
    /// Asks for one metric.
    pub async fn evaluate(&self, spec: &MetricSpec) -> Result<Opinion, Silent> {
        let (reason, result) = match spec.type_.as_str() {
            "Resource" => ("FailedGetResourceMetric", self.resource(spec).await),
            "ContainerResource" => ("FailedGetContainerResourceMetric", self.resource(spec).await),
            "Pods" => ("FailedGetPodsMetric", self.own(spec).await),
            "Object" => ("FailedGetObjectMetric", self.object(spec).await),
            "External" => ("FailedGetExternalMetric", self.external(spec).await),
            other => ("InvalidMetricSourceType", Err(Error::Object(format!("unknown metric source type {other:?}")))),
        };
        result.map_err(|error| Silent { reason, message: error.message(), value: value_of(spec) })
    }

    async fn resource(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let whole = spec.resource.as_ref().map(|r| (&r.name, &r.target, None));
        let part = spec.container_resource.as_ref().map(|r| (&r.name, &r.target, Some(r.container.as_str())));
        let (name, target, container) = whole.or(part).ok_or_else(|| incomplete(spec))?;
        let fault = |what: &str, why: String| Error::Object(format!("failed to get {name} {what}: {why}"));
        let unit = if target.average_value.is_some() { "usage" } else { "utilization" };
        let samples = self.metrics.resource(self.selector, name, container).await.map_err(|e| {
            let why = format!(
                "unable to get metrics for resource {name}: unable to fetch metrics from resource metrics API: {}",
                e.message()
            );
            fault(unit, why)
        })?;
        let (requests, unasked) = match requests(self.pods, name, container) {
            Ok(requests) => (requests, None),
            Err(why) => (BTreeMap::new(), Some(why)),
        };
        let aim = match (target.average_utilization, &target.average_value) {
            (_, Some(value)) => Target::Average(milli(value)),
            (Some(percent), None) => Target::Utilization(percent.into(), &requests),
            (None, None) => return Err(incomplete(spec)),
        };
        let proposal = propose(self.pods, &samples, aim, name == "cpu", self.current, self.now);
        let Proposal { replicas, average, utilization } = proposal.map_err(|why| {
            let unasked = unasked.filter(|_| why == Unknown::Request);
            fault(unit, unasked.unwrap_or_else(|| why.to_string()))
        })?;
        let current = MetricValueStatus {
            average_value: Some(text(average)),
            average_utilization: utilization.and_then(|u| i32::try_from(u).ok()),
            value: None,
        };
        let mut status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
        let metric = match (target.average_value.is_some(), container) {
            (true, _) => format!("{name} resource"),
            (false, None) => format!("{name} resource utilization (percentage of request)"),
            (false, Some(_)) => format!("{name} container resource utilization (percentage of request)"),
        };
        let name = name.clone();
        match container.map(str::to_owned) {
            None => status.resource = Some(ResourceMetricStatus { name, current }),
            Some(container) => {
                status.container_resource = Some(ContainerResourceMetricStatus { name, container, current });
            }
        }
        Ok(Opinion { replicas, metric, status })
    }

    async fn own(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let source = spec.pods.as_ref().ok_or_else(|| incomplete(spec))?;
        let samples = self.metrics.pods(self.selector, &source.metric).await;
        let samples = samples.map_err(|e| silence(&source.metric.name, &e.message()))?;
        let wanted = source.target.average_value.as_ref().map(milli).ok_or_else(|| incomplete(spec))?;
        let proposal = propose(self.pods, &samples, Target::Average(wanted), false, self.current, self.now);
        let Proposal { replicas, average, .. } = proposal.map_err(|why| Error::Object(why.to_string()))?;
        let current = MetricValueStatus { average_value: Some(text(average)), ..MetricValueStatus::default() };
        let pods = Some(PodsMetricStatus { metric: source.metric.clone(), current });
        let status = MetricStatus { type_: spec.type_.clone(), pods, ..MetricStatus::default() };
        Ok(Opinion { replicas, metric: format!("pods metric {}", source.metric.name), status })
    }

    async fn object(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let source = spec.object.as_ref().ok_or_else(|| incomplete(spec))?;
        let described = &source.described_object;
        let (group, version) = split(described.api_version.as_deref());
        let kind = GroupVersionKind::gvk(group, version, &described.kind);
        let (resource, _) = oneshot::pinned_kind(self.metrics.client, &kind).await?;
        let plural = if group.is_empty() { resource.plural } else { format!("{}.{group}", resource.plural) };
        let value = self.metrics.object(&plural, &described.name, &source.metric).await.map_err(|e| {
            let of = format!("{} on {} {}", described.kind, self.metrics.namespace, described.name);
            silence(&source.metric.name, &format!("{of}/{}", e.message()))
        })?;
        let (replicas, current) = self.by_value(spec, &source.target, value)?;
        let object =
            Some(ObjectMetricStatus { described_object: described.clone(), metric: source.metric.clone(), current });
        let status = MetricStatus { type_: spec.type_.clone(), object, ..MetricStatus::default() };
        Ok(Opinion { replicas, metric: format!("{} metric {}", described.kind, source.metric.name), status })
    }

    async fn external(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let source = spec.external.as_ref().ok_or_else(|| incomplete(spec))?;
        let value = self.metrics.external(&source.metric).await.map_err(|e| {
            let (namespace, name) = (self.metrics.namespace, &source.metric.name);
            let selector = go_text(source.metric.selector.as_ref());
            Error::Object(format!("unable to get external metric {namespace}/{name}/{selector}: {}", e.message()))
        })?;
        let (replicas, current) = self.by_value(spec, &source.target, value)?;
        let external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
        let status = MetricStatus { type_: spec.type_.clone(), external, ..MetricStatus::default() };
        Ok(Opinion { replicas, metric: format!("external metric {}", source.metric.name), status })
    }

    fn by_value(
        &self,
        spec: &MetricSpec,
        target: &MetricTarget,
        value: i64,
    ) -> Result<(i32, MetricValueStatus), Error> {
        let wanted =
            target.average_value.as_ref().or(target.value.as_ref()).map(milli).ok_or_else(|| incomplete(spec))?;
        let per_pod = target.average_value.is_some();
        let ready = self.pods.iter().filter(|p| pods::is_ready(p)).count() as i32;
        let replicas = propose_by_value(value, wanted, per_pod, self.current, ready);
        let shown = if per_pod { value / i64::from(self.current.max(1)) } else { value };
        let shown = Some(text(shown));
        let status = match per_pod {
            true => MetricValueStatus { average_value: shown, ..MetricValueStatus::default() },
            false => MetricValueStatus { value: shown, ..MetricValueStatus::default() },
        };
        Ok((replicas, status))
    }
}

/// `apps/v1` and `v1` as group and version.
pub fn split(api_version: Option<&str>) -> (&str, &str) {
    let api_version = api_version.unwrap_or("v1");
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn incomplete(spec: &MetricSpec) -> Error {
    Error::Object(format!(
        "invalid {} metric source: neither a utilization target nor a value target was set",
        spec.type_
    ))
}

fn silence(metric: &str, why: &str) -> Error {
    Error::Object(format!("unable to get metric {metric}: {why}"))
}

/// A selector as Go prints it.
fn go_text(selector: Option<&LabelSelector>) -> String {
    let Some(LabelSelector { match_labels, match_expressions }) = selector else { return "nil".to_owned() };
    let labels: String = match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let demands = match_expressions.iter().flatten().map(|demand| {
        let values = demand.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", demand.key, demand.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        demands.collect::<String>()
    )
}

/// What a metric would tell, as the event of an autoscaler that can't decide names it (upstream's
/// `computeReplicasForMetric`).
fn value_of(spec: &MetricSpec) -> String {
    let part = spec.container_resource.as_ref().map(|r| format!("{} container metric value", r.container));
    let whole = spec.resource.as_ref().map(|r| format!("{} resource metric value", r.name));
    let external = spec.external.as_ref().map(|e| format!("{} external metric value", e.metric.name));
    part.or(whole).or(external).unwrap_or_else(|| format!("{} metric value", spec.type_.to_lowercase()))
}

fn milli(text: &Text) -> i64 {
    text.0.parse().map_or(0, |q: Quantity| q.milli_value())
}

fn text(milli: i64) -> Text {
    Text(Quantity::from_milli(milli, Format::DecimalSi).to_string())
}

/// What each pod asks for, in thousandths: as a whole if it says so and no container is named, else its containers and
/// sidecars together (upstream's `calculatePodRequests`). The error says which of them asks for nothing.
fn requests(pods: &[Arc<Pod>], resource: &str, container: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let of = |pod: &Pod| -> Result<i64, String> {
        let name = pod.name_any();
        let Some(spec) = &pod.spec else { return Ok(0) };
        let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref()).filter(|r| !r.is_empty());
        if let (Some(whole), None) = (whole, container) {
            let asked = whole.get(resource).map(milli);
            return asked.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
        }
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let named = |c: &&Container| container.is_none_or(|name| c.name == name);
        let mut all = spec.containers.iter().chain(sidecars).filter(named).peekable();
        if let (None, Some(container)) = (all.peek(), container) {
            return Err(format!("container {container} not found in Pod {name}"));
        }
        all.map(|c| {
            let asked = c.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(resource)).map(milli);
            asked.ok_or_else(|| format!("missing request for {resource} in container {} of Pod {name}", c.name))
        })
        .sum()
    };
    pods.iter().map(|pod| Ok((pod.name_any(), of(pod)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_selector_is_told_as_go_prints_it() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v", "w"]}]});
        assert_eq!(
            go_text(Some(&serde_json::from_value(selector).unwrap())),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:k,Operator:In,Values:[v w],},},}"
        );
        assert_eq!(go_text(None), "nil");
    }

    fn asked(spec: Value, container: Option<&str>) -> Result<Option<i64>, String> {
        let pod = Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap());
        requests(&[pod], "cpu", container).map(|by_pod| by_pod.get("p").copied())
    }

    #[test]
    fn a_pod_asks_as_a_whole_or_by_its_containers_and_what_is_missing_is_named() {
        let half = json!({"requests": {"cpu": "500m"}});
        let sidecar = json!([{"name": "s", "restartPolicy": "Always", "resources": half}, {"name": "i"}]);
        let both = json!({"containers": [{"name": "a", "resources": half}], "initContainers": sidecar});
        let silent = json!({"containers": [{"name": "a", "resources": half}, {"name": "b"}]});
        let whole = json!({"resources": {"requests": {"cpu": "2"}}, "containers": silent["containers"]});
        let memory = json!({"resources": {"requests": {"memory": "1Gi"}}, "containers": silent["containers"]});
        for (spec, container, says) in [
            (&both, None, Ok(Some(1000))),
            (&both, Some("s"), Ok(Some(500))),
            (&both, Some("x"), Err("container x not found in Pod p")),
            (&silent, None, Err("missing request for cpu in container b of Pod p")),
            (&whole, None, Ok(Some(2000))),
            (&whole, Some("b"), Err("missing request for cpu in container b of Pod p")),
            (&memory, None, Err("missing pod-level request for cpu in Pod p")),
        ] {
            assert_eq!(asked(spec.clone(), container), says.map_err(str::to_owned), "{spec} {container:?}");
        }
    }
}
