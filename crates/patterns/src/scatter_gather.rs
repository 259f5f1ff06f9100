//! ScatterGather: roots before leaf Services.

use jiff::Timestamp;
use pattern_kinds::patterns::{PatternStatus, ScatterGather, Tier};
use scatter::config::{Config, Hedge, Leaf, Limits, Merge, Route, Spread};
use serving::Span;

use crate::{
    Settings,
    pattern::Pattern,
    plan::{Configuration, Plan, Port, Refusal},
    split::HTTP,
    world::{Watched, service_host},
};

impl Pattern for ScatterGather {
    const CONTROLLER: &'static str = "hythe-scatter-gather";

    fn services(&self) -> Vec<&str> {
        self.spec.leaves.iter().map(|leaf| leaf.name.as_str()).collect()
    }

    fn tier(&self) -> Option<&Tier> {
        self.spec.tier.as_ref()
    }

    fn status(&self) -> Option<&PatternStatus> {
        self.status.as_ref()
    }

    fn plan(&self, watched: &Watched, settings: &Settings, _: Timestamp) -> Result<Plan, Refusal> {
        let spec = &self.spec;
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let port = spec.port.unwrap_or(80);
        let mut missing = Vec::new();
        let leaves = spec
            .leaves
            .iter()
            .map(|leaf| {
                let at = leaf.port.unwrap_or(port);
                // A leaf without a replica is one that does not answer: its name stands for it.
                let name = || vec![format!("{}:{at}", service_host(settings, namespace, &leaf.name))];
                let replicas = match watched.reach(settings, namespace, &leaf.name, at) {
                    Ok(reach) => Some(reach.hosts()).filter(|hosts| !hosts.is_empty()).unwrap_or_else(name),
                    Err(error) => {
                        missing.push(error.to_string());
                        name()
                    }
                };
                Leaf { name: leaf.name.clone(), replicas, tls: None }
            })
            .collect();
        let config = Config {
            listen: ([0, 0, 0, 0], HTTP as u16).into(),
            leaves,
            routes: vec![Route {
                path: "/api/v1/".to_owned(),
                leaf_path: None,
                spread: Spread::All,
                merge: merge(self),
            }],
            deadline: Span::millis(u64::try_from(spec.deadline_milliseconds.unwrap_or(1000)).unwrap_or(1000)),
            leaf_deadline: None,
            hedge: Hedge { enabled: spec.hedge.unwrap_or(true), ..Default::default() },
            minimum_leaves: 1,
            limits: Limits::default(),
        };
        let invalid = |message: String| Refusal { reason: "InvalidConfiguration", message };
        config.check().map_err(|error| invalid(error.to_string()))?;
        Ok(Plan {
            command: &["scatter"],
            configuration: Configuration::Text(serde_yaml_ng::to_string(&config).map_err(|e| invalid(e.to_string()))?),
            port: Port { name: "http", port, target: HTTP },
            peers: None,
            replicas: 2,
            memory: 0,
            disk: None,
            backends: i32::try_from(spec.leaves.len()).unwrap_or(i32::MAX),
            missing,
            more: Vec::new(),
            waits: None,
        })
    }
}

fn merge(object: &ScatterGather) -> Merge {
    let spec = &object.spec;
    let items = || "/items".to_owned();
    // A field's plain name is a pointer of one step.
    let field = || spec.field.clone().map(|f| if f.starts_with('/') { f } else { format!("/{f}") });
    match spec.merge.as_deref() {
        Some("Intersection") => Merge::Intersection { items: items(), key: field() },
        Some("TopK") => Merge::TopK {
            items: items(),
            k: usize::try_from(spec.top.unwrap_or(10)).unwrap_or(10),
            k_parameter: None,
            by: field().unwrap_or_default(),
            ascending: false,
            key: None,
        },
        Some("Sum") => Merge::Sum { value: field() },
        Some("Function") => {
            Merge::Function { url: spec.function.clone().unwrap_or_default(), timeout: Span::millis(100) }
        }
        _ => Merge::Union { items: items(), key: field() },
    }
}
