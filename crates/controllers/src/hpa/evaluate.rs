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
        core::v1::Pod,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};
use kube::{ResourceExt, core::GroupVersionKind, discovery::oneshot};

use super::{
    metrics::Metrics,
    usage::{Proposal, Target, propose, propose_by_value},
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

/// Why a metric says nothing: a reason for the condition, and the words.
pub struct Silent {
    pub reason: &'static str,
    pub message: String,
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
        result.map_err(|error| Silent { reason, message: error.message() })
    }

    async fn resource(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let whole = spec.resource.as_ref().map(|r| (&r.name, &r.target, None));
        let part = spec.container_resource.as_ref().map(|r| (&r.name, &r.target, Some(r.container.as_str())));
        let (name, target, container) = whole.or(part).ok_or_else(|| incomplete(spec))?;
        let fault = |what: &str, why: String| Error::Object(format!("failed to get {name} {what}: {why}"));
        let samples = self.metrics.resource(self.selector, name, container).await.map_err(|e| {
            let why = format!(
                "unable to get metrics for resource {name}: unable to fetch metrics from resource metrics API: {}",
                e.message()
            );
            fault("utilization", why)
        })?;
        let requests = requests(self.pods, name, container);
        let (aim, what) = match (target.average_utilization, &target.average_value) {
            (Some(percent), _) => {
                (Target::Utilization(percent.into(), &requests), "utilization (percentage of request)")
            }
            (None, Some(value)) => (Target::Average(milli(value)), "raw metric value"),
            (None, None) => return Err(incomplete(spec)),
        };
        let proposal = propose(self.pods, &samples, aim, name == "cpu", self.current, self.now);
        let Proposal { replicas, average, utilization } =
            proposal.map_err(|why| fault("utilization", why.to_owned()))?;
        let format = if name == "memory" { Format::BinarySi } else { Format::DecimalSi };
        let current = MetricValueStatus {
            average_value: Some(text(average, format)),
            average_utilization: utilization.and_then(|u| i32::try_from(u).ok()),
            value: None,
        };
        let mut status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
        let metric = match container {
            None => {
                status.resource = Some(ResourceMetricStatus { name: name.clone(), current });
                format!("{name} resource {what}")
            }
            Some(container) => {
                status.container_resource = Some(ContainerResourceMetricStatus {
                    name: name.clone(),
                    container: container.to_owned(),
                    current,
                });
                format!("{name} container resource {what}")
            }
        };
        Ok(Opinion { replicas, metric, status })
    }

    async fn own(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let source = spec.pods.as_ref().ok_or_else(|| incomplete(spec))?;
        let samples = self.metrics.pods(self.selector, &source.metric).await?;
        let wanted = source.target.average_value.as_ref().map(milli).ok_or_else(|| incomplete(spec))?;
        let proposal = propose(self.pods, &samples, Target::Average(wanted), false, self.current, self.now);
        let Proposal { replicas, average, .. } = proposal.map_err(|why| Error::Object(why.to_owned()))?;
        let current =
            MetricValueStatus { average_value: Some(text(average, Format::DecimalSi)), ..MetricValueStatus::default() };
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
        let value = self.metrics.object(&plural, &described.name, &source.metric).await?;
        let (replicas, current) = self.by_value(spec, &source.target, value)?;
        let object =
            Some(ObjectMetricStatus { described_object: described.clone(), metric: source.metric.clone(), current });
        let status = MetricStatus { type_: spec.type_.clone(), object, ..MetricStatus::default() };
        Ok(Opinion { replicas, metric: format!("{} metric {}", described.kind, source.metric.name), status })
    }

    async fn external(&self, spec: &MetricSpec) -> Result<Opinion, Error> {
        let source = spec.external.as_ref().ok_or_else(|| incomplete(spec))?;
        let value = self.metrics.external(&source.metric).await?;
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
        let shown = Some(text(shown, Format::DecimalSi));
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

fn milli(text: &Text) -> i64 {
    text.0.parse().map_or(0, |q: Quantity| q.milli_value())
}

fn text(milli: i64, format: Format) -> Text {
    Text(Quantity::from_milli(milli, format).to_string())
}

/// What each pod asks for, if all its containers ask for something (in thousandths).
fn requests(pods: &[Arc<Pod>], resource: &str, container: Option<&str>) -> BTreeMap<String, i64> {
    let of = |pod: &Pod| -> Option<i64> {
        let spec = pod.spec.as_ref()?;
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let mut all =
            spec.containers.iter().chain(sidecars).filter(|c| container.is_none_or(|name| c.name == name)).peekable();
        all.peek()?;
        all.map(|c| c.resources.as_ref()?.requests.as_ref()?.get(resource).map(milli)).sum()
    };
    pods.iter().filter_map(|pod| Some((pod.name_any(), of(pod)?))).collect()
}
