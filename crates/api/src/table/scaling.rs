//! Autoscalers, scales and disruption budgets.

use serde_json::Value;

use super::{
    cell::{at, int_or_string, list_at, number_at, quantity, text_at},
    column::{AGE, NAME, integer, name, text},
};
use crate::resource::Column;

pub(super) const DISRUPTION_BUDGETS: &[Column] = &[
    NAME,
    text("Min Available", "How many pods must stay available.", |o, _| {
        int_or_string(at(o, "/spec/minAvailable")).unwrap_or_else(|| "N/A".to_owned()).into()
    }),
    text("Max Unavailable", "How many pods may be unavailable.", |o, _| {
        int_or_string(at(o, "/spec/maxUnavailable")).unwrap_or_else(|| "N/A".to_owned()).into()
    }),
    integer("Allowed Disruptions", "How many pods may be disrupted now.", |o, _| {
        number_at(o, "/status/disruptionsAllowed").into()
    }),
    AGE,
];

pub(super) const SCALES: &[Column] = &[
    Column { format: "", ..text("Name", "Name of the scaled object.", name) },
    integer("Desired", "How many pods there should be.", |o, _| number_at(o, "/spec/replicas").into()),
    integer("Available", "How many pods there are.", |o, _| number_at(o, "/status/replicas").into()),
    AGE,
];

pub(super) const AUTOSCALERS: &[Column] = &[
    NAME,
    text("Reference", "What is scaled.", |o, _| {
        format!("{}/{}", text_at(o, "/spec/scaleTargetRef/kind"), text_at(o, "/spec/scaleTargetRef/name")).into()
    }),
    text("Targets", "Present and wanted values of the metrics.", |o, _| metrics(o).into()),
    text("MinPods", "The least number of pods.", |o, _| match at(o, "/spec/minReplicas").and_then(Value::as_i64) {
        Some(min) => min.to_string().into(),
        None => "<unset>".into(),
    }),
    text("MaxPods", "The greatest number of pods.", |o, _| number_at(o, "/spec/maxReplicas").into()),
    text("Replicas", "The present number of pods.", |o, _| number_at(o, "/status/currentReplicas").into()),
    AGE,
];

/// Up to two metrics as `present/wanted`.
fn metrics(autoscaler: &Value) -> String {
    let Some(specs) = at(autoscaler, "/spec/metrics").and_then(Value::as_array) else {
        return cpu_only(autoscaler);
    };
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = list_at(autoscaler, "/status/currentMetrics");
    let shown: Vec<_> = specs.iter().enumerate().map(|(i, spec)| metric(spec, statuses.get(i))).collect();
    match shown.len() {
        0..=2 => shown.join(", "),
        count => format!("{} + {} more...", shown[..2].join(", "), count - 2),
    }
}

/// `autoscaling/v1` knows the CPU alone; with the newer version's eyes it is a metric like others.
fn cpu_only(autoscaler: &Value) -> String {
    let Some(target) = at(autoscaler, "/spec/targetCPUUtilizationPercentage").and_then(Value::as_i64) else {
        return "<none>".to_owned();
    };
    let current = at(autoscaler, "/status/currentCPUUtilizationPercentage").and_then(Value::as_i64);
    let current = current.map_or_else(|| "<unknown>".to_owned(), |c| format!("{c}%"));
    format!("cpu: {current}/{target}%")
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let source = match text_at(spec, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| at(spec, &format!("/{source}/target/{field}"));
    let current = |field: &str| status.and_then(|s| at(s, &format!("/{source}/current/{field}")));
    let amount = |value: Option<&Value>| quantity(value).unwrap_or_else(|| "<unknown>".to_owned());
    let percent = |value: Option<&Value>, absent: &str| match value.and_then(Value::as_i64) {
        Some(value) => format!("{value}%"),
        None => absent.to_owned(),
    };
    let average = target("averageValue");
    match source {
        "resource" | "containerResource" => {
            let name = text_at(spec, &format!("/{source}/name"));
            match average {
                Some(wanted) => format!("{name}: {}/{}", amount(current("averageValue")), amount(Some(wanted))),
                None => format!(
                    "{name}: {}/{}",
                    percent(current("averageUtilization"), "<unknown>"),
                    percent(target("averageUtilization"), "<auto>")
                ),
            }
        }
        "pods" => format!("{}/{}", amount(current("averageValue")), amount(average)),
        _ => match average {
            Some(wanted) => format!("{}/{} (avg)", amount(current("averageValue")), amount(Some(wanted))),
            None => format!("{}/{}", amount(current("value")), amount(target("value"))),
        },
    }
}
