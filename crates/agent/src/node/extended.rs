//! Extended resources in the node's status: what device plugins bring, and what somebody else declared by patching the
//! capacity. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::NodeStatus, apimachinery::pkg::api::resource::Quantity};
use serde_json::{Map, Value};

use crate::device_plugins::is_extended;

/// Whose the node's extended resources are.
#[derive(Debug, Default)]
pub struct Extended {
    /// What plugins ever brought to this agent.
    brought: BTreeSet<String>,
    /// What an earlier agent left: nothing, until somebody brings it again.
    left: BTreeSet<String>,
}

/// What the status must say; `None` where it must say nothing.
#[derive(Debug, Default, PartialEq)]
pub struct Amounts {
    capacity: BTreeMap<String, Option<Quantity>>,
    allocatable: BTreeMap<String, Option<Quantity>>,
}

impl Extended {
    /// On a node that was left with this status.
    pub fn after(status: &NodeStatus) -> Self {
        Self { brought: BTreeSet::new(), left: names(status.capacity.as_ref()).cloned().collect() }
    }

    /// The amounts, given what plugins bring (all and healthy devices) and what the status says. What others declared
    /// may be allocated.
    pub fn amounts(&mut self, plugins: &BTreeMap<String, (usize, usize)>, status: &NodeStatus) -> Amounts {
        let quantity = |n: usize| Some(Quantity(n.to_string()));
        self.brought.extend(plugins.keys().cloned());
        let mut amounts = Amounts::default();
        for name in self.brought.union(&self.left) {
            let (all, healthy) = plugins.get(name).copied().unwrap_or_default();
            amounts.capacity.insert(name.clone(), quantity(all));
            amounts.allocatable.insert(name.clone(), quantity(healthy));
        }
        let ours = |name: &&String| self.brought.contains(*name) || self.left.contains(*name);
        for name in names(status.allocatable.as_ref()).filter(|name| !ours(name)) {
            amounts.allocatable.insert(name.clone(), None);
        }
        for (name, declared) in status.capacity.iter().flatten().filter(|(name, _)| is_extended(name) && !ours(name)) {
            amounts.allocatable.insert(name.clone(), Some(declared.clone()));
        }
        amounts
    }

    /// The status has been written: what is declared from now on is somebody's.
    pub fn written(&mut self) {
        self.left.clear();
    }
}

impl Amounts {
    /// Whether the status says so already.
    pub fn hold_in(&self, status: &NodeStatus) -> bool {
        let hold = |wanted: &BTreeMap<String, Option<Quantity>>, said: Option<&BTreeMap<String, Quantity>>| {
            wanted.iter().all(|(name, amount)| said.and_then(|said| said.get(name)) == amount.as_ref())
        };
        hold(&self.capacity, status.capacity.as_ref()) && hold(&self.allocatable, status.allocatable.as_ref())
    }

    /// Adds them to a patch of the status.
    pub fn put_into(self, patch: &mut Value) {
        for (field, amounts) in [("capacity", self.capacity), ("allocatable", self.allocatable)] {
            if !amounts.is_empty() {
                let amounts =
                    amounts.into_iter().map(|(name, amount)| (name, amount.map_or(Value::Null, |a| a.0.into())));
                patch[field] = Value::Object(amounts.collect::<Map<_, _>>());
            }
        }
    }
}

fn names(amounts: Option<&BTreeMap<String, Quantity>>) -> impl Iterator<Item = &String> {
    amounts.into_iter().flatten().map(|(name, _)| name).filter(|name| is_extended(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(capacity: Value, allocatable: Value) -> NodeStatus {
        serde_json::from_value(json!({"capacity": capacity, "allocatable": allocatable})).expect("a status")
    }

    fn patch(amounts: Amounts) -> Value {
        let mut patch = json!({});
        amounts.put_into(&mut patch);
        patch
    }

    #[test]
    fn what_somebody_declares_may_be_allocated_and_goes_when_it_is_taken_back() {
        let mut extended = Extended::after(&status(json!({"cpu": "2"}), json!({"cpu": "2"})));
        let none = BTreeMap::new();
        let declared = status(json!({"cpu": "2", "example.com/x": "3"}), json!({"cpu": "2"}));
        let amounts = extended.amounts(&none, &declared);
        assert!(!amounts.hold_in(&declared));
        assert_eq!(patch(amounts), json!({"allocatable": {"example.com/x": "3"}}));
        extended.written();
        let told = status(json!({"example.com/x": "3"}), json!({"example.com/x": "3"}));
        assert!(extended.amounts(&none, &told).hold_in(&told), "it stays");
        let taken_back = status(json!({"cpu": "2"}), json!({"example.com/x": "3"}));
        assert_eq!(patch(extended.amounts(&none, &taken_back)), json!({"allocatable": {"example.com/x": null}}));
    }

    #[test]
    fn what_plugins_bring_is_theirs_to_count() {
        let mut extended = Extended::default();
        let brought = BTreeMap::from([("example.com/gpu".to_owned(), (2, 1))]);
        let wrong = status(json!({"example.com/gpu": "9"}), json!({"example.com/gpu": "9"}));
        let both = json!({"capacity": {"example.com/gpu": "2"}, "allocatable": {"example.com/gpu": "1"}});
        assert_eq!(patch(extended.amounts(&brought, &wrong)), both);
        let gone = json!({"capacity": {"example.com/gpu": "0"}, "allocatable": {"example.com/gpu": "0"}});
        assert_eq!(patch(extended.amounts(&BTreeMap::new(), &wrong)), gone);
    }

    #[test]
    fn what_an_earlier_agent_left_is_nothing_until_it_is_declared_again() {
        let left = status(json!({"example.com/x": "3"}), json!({"example.com/x": "3"}));
        let mut extended = Extended::after(&left);
        let none = BTreeMap::new();
        let nothing = json!({"capacity": {"example.com/x": "0"}, "allocatable": {"example.com/x": "0"}});
        assert_eq!(patch(extended.amounts(&none, &left)), nothing);
        extended.written();
        assert_eq!(patch(extended.amounts(&none, &left)), json!({"allocatable": {"example.com/x": "3"}}));
    }
}
