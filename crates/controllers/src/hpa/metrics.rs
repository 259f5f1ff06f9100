//! Asking the metrics APIs: `metrics.k8s.io`, `custom.metrics.k8s.io`, `external.metrics.k8s.io`.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use form_urlencoded::Serializer;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::autoscaling::v2::MetricIdentifier, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{Client, core::Selector};
use serde_json::Value;

use super::usage::Sample;
use crate::Error;

/// How the server answers for an API that nobody has registered.
const NOT_SERVED: &str = "the server could not find the requested resource";

/// The metrics of a namespace.
pub struct Metrics<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
}

impl Metrics<'_> {
    /// What the selected pods, or one container of each, use of a resource.
    pub async fn resource(
        &self,
        selector: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<BTreeMap<String, Sample>, Error> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace);
        let list = self.get(&path, &[("labelSelector", selector)]).await?;
        let samples = items(&list).filter_map(|pod| {
            let containers = pod["containers"].as_array()?.iter();
            let values: Option<Vec<i64>> = containers
                .filter(|c| container.is_none_or(|name| c["name"] == name))
                .map(|c| milli(&c["usage"][resource]))
                .collect();
            let value = values.filter(|v| !v.is_empty())?.into_iter().sum();
            let window = pod["window"].as_str().and_then(|w| w.parse().ok()).unwrap_or(SignedDuration::from_secs(60));
            Some((pod["metadata"]["name"].as_str()?.to_owned(), Sample { value, at: time(&pod["timestamp"]), window }))
        });
        Ok(samples.collect())
    }

    /// What a metric of the selected pods' own says.
    pub async fn pods(&self, selector: &str, metric: &MetricIdentifier) -> Result<BTreeMap<String, Sample>, Error> {
        let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/*/{}", self.namespace, metric.name);
        let chosen = chosen(metric.selector.as_ref());
        let list = self.get(&path, &[("labelSelector", selector), ("metricLabelSelector", &chosen)]).await;
        let list = list.map_err(|e| unheard("custom", &e.message(), "pods"))?;
        if items(&list).next().is_none() {
            return Err(none("custom"));
        }
        let samples = items(&list).filter_map(|item| {
            let window = SignedDuration::from_secs(item["windowSeconds"].as_i64().unwrap_or(60));
            let name = item["describedObject"]["name"].as_str()?.to_owned();
            Some((name, Sample { value: milli(&item["value"])?, at: time(&item["timestamp"]), window }))
        });
        Ok(samples.collect())
    }

    /// What a metric of an object says; `resource` is its plural with its group, `services` or `ingresses.networking.k8s.io`.
    pub async fn object(&self, resource: &str, name: &str, metric: &MetricIdentifier) -> Result<i64, Error> {
        let base = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}", self.namespace);
        let path = match resource {
            "namespaces" => format!("{base}/metrics/{}", metric.name),
            _ => format!("{base}/{resource}/{name}/{}", metric.name),
        };
        let list = self.get(&path, &[("metricLabelSelector", &chosen(metric.selector.as_ref()))]).await;
        let list = list.map_err(|e| unheard("custom", &e.message(), resource))?;
        items(&list).next().and_then(|item| milli(&item["value"])).ok_or_else(|| none("custom"))
    }

    /// What a metric from elsewhere says, summed up.
    pub async fn external(&self, metric: &MetricIdentifier) -> Result<i64, Error> {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}", self.namespace, metric.name);
        let list = self.get(&path, &[("labelSelector", &chosen(metric.selector.as_ref()))]).await;
        let list = list.map_err(|e| unheard("external", &e.message(), &metric.name))?;
        let values: Vec<i64> = items(&list).filter_map(|item| milli(&item["value"])).collect();
        if values.is_empty() { Err(none("external")) } else { Ok(values.into_iter().sum()) }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Error> {
        let given = query.iter().filter(|(_, value)| !value.is_empty());
        let query = Serializer::new(String::new()).extend_pairs(given).finish();
        let request = http::Request::get(format!("{path}?{query}")).body(Vec::new());
        let request = request.map_err(|e| Error::Object(format!("the metric has a name that is no path: {e}")))?;
        Ok(self.client.request(request).await?)
    }
}

/// Why an API told nothing. Without a server of its own it is not found, for which upstream's clients have words.
fn unheard(api: &str, why: &str, resource: &str) -> Error {
    let why = match (api, why) {
        ("custom", NOT_SERVED) => "no custom metrics API (custom.metrics.k8s.io) registered".to_owned(),
        (_, NOT_SERVED) => format!("{why} (get {resource}.{api}.metrics.k8s.io)"),
        _ => why.to_owned(),
    };
    Error::Object(format!("unable to fetch metrics from {api} metrics API: {why}"))
}

fn none(api: &str) -> Error {
    Error::Object(format!("no metrics returned from {api} metrics API"))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn milli(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<Quantity>().ok()?.milli_value())
}

fn chosen(selector: Option<&LabelSelector>) -> String {
    selector.and_then(|s| Selector::try_from(s.clone()).ok()).map(|s| s.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{NOT_SERVED, unheard};

    #[test]
    fn apis_that_nobody_has_registered_are_told_of_in_upstreams_words() {
        for (api, why, says) in [
            ("custom", NOT_SERVED, "custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"),
            (
                "external",
                NOT_SERVED,
                "external metrics API: the server could not find the requested resource (get hits.external.metrics.k8s.io)",
            ),
            ("external", "too busy", "external metrics API: too busy"),
        ] {
            assert_eq!(unheard(api, why, "hits").message(), format!("unable to fetch metrics from {says}"));
        }
    }
}
