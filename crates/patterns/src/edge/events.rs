//! What of the statuses of Gateways and routes is news, as events of theirs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pattern_kinds::gateway::{
    Gateway, GatewayClass, GatewayStatus, HTTPRoute, ParentReference, RouteParentStatus, RouteStatus,
};
use recording::Recorder;

use super::GATEWAY_CONTROLLER;

/// Tells of what the status of a Gateway says that it did not say before.
pub fn of_gateway(recorder: &Recorder, gateway: &Gateway, status: &GatewayStatus) {
    let before = gateway.status.clone().unwrap_or_default();
    let known = before.conditions.unwrap_or_default();
    for news in news(status.conditions.as_deref().unwrap_or_default(), &known) {
        tell(recorder, gateway, &news, "");
    }
    for listener in status.listeners.iter().flatten() {
        let known = before.listeners.iter().flatten().find(|known| known.name == listener.name);
        let all = news(&listener.conditions, known.map_or(&[], |known| &known.conditions));
        // What a Gateway serves, its own conditions say; of listeners, that one is wrong, and why.
        for news in all.iter().filter(|news| !news.good && news.condition.type_ != "Programmed") {
            tell(recorder, gateway, news, &format!("listener {}: ", listener.name));
        }
    }
}

/// Tells of what is said of a GatewayClass that was not said before.
pub fn of_class(recorder: &Recorder, class: &GatewayClass, after: &[Condition], before: &[Condition]) {
    for news in news(after, before) {
        tell(recorder, class, &news, "");
    }
}

/// Tells of what the status of a route says that it did not say before.
pub fn of_route(recorder: &Recorder, route: &HTTPRoute, status: &RouteStatus) {
    let before = route.status.as_ref().map_or(&[][..], |status| &status.parents);
    for parent in status.parents.iter().filter(|parent| parent.controller_name == GATEWAY_CONTROLLER) {
        let same = |known: &&RouteParentStatus| is_of(known, &parent.parent_ref);
        let known = before.iter().find(same).map_or(&[][..], |known| &known.conditions);
        for news in news(&parent.conditions, known) {
            // That nothing is missing is news to those only who were told that something is.
            let told = known.iter().any(|known| known.type_ == news.condition.type_);
            if told || !news.good || news.condition.type_ == "Accepted" {
                tell(recorder, route, &news, &format!("{}: ", named(&parent.parent_ref)));
            }
        }
    }
}

fn is_of(known: &RouteParentStatus, parent: &ParentReference) -> bool {
    known.controller_name == GATEWAY_CONTROLLER && known.parent_ref == *parent
}

fn named(parent: &ParentReference) -> String {
    let namespace = parent.namespace.iter().map(|namespace| format!("{namespace}/"));
    let listener = parent.section_name.iter().map(|name| format!(", listener {name}"));
    format!("Gateway {}{}{}", namespace.collect::<String>(), parent.name, listener.collect::<String>())
}

struct News<'a> {
    condition: &'a Condition,
    good: bool,
}

/// What is said now and was not before. That something new is waited for, or has no fault, is no news.
fn news<'a>(after: &'a [Condition], before: &[Condition]) -> Vec<News<'a>> {
    let unsaid = |condition: &&Condition| {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        let same = known.is_some_and(|known| known.status == condition.status && known.reason == condition.reason);
        let was_good = known.is_some_and(is_good);
        let waits = matches!(condition.reason.as_str(), "Pending" | "AddressNotAssigned") && !was_good;
        let faultless = is_fault(condition) && is_good(condition) && known.is_none();
        !same && !waits && !faultless
    };
    after.iter().filter(unsaid).map(|condition| News { condition, good: is_good(condition) }).collect()
}

/// Whether a condition stands for something that is wrong.
fn is_fault(condition: &Condition) -> bool {
    matches!(condition.type_.as_str(), "Conflicted" | "PartiallyInvalid")
}

fn is_good(condition: &Condition) -> bool {
    (condition.status == "True") != is_fault(condition)
}

fn tell<K: kube::Resource<DynamicType = ()>>(recorder: &Recorder, object: &K, news: &News<'_>, about: &str) {
    let message = format!("{about}{}", news.condition.message);
    if news.good {
        recorder.normal(object, &news.condition.reason, message);
    } else {
        recorder.warning(object, &news.condition.reason, message);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::conditions::{Said, conditions};

    fn reasons(after: &[Said], before: &[Said]) -> Vec<(String, bool)> {
        let made = |said| conditions(said, &[], Some(1), Timestamp::UNIX_EPOCH);
        let (after, before) = (made(after), made(before));
        news(&after, &before).iter().map(|news| (news.condition.reason.clone(), news.good)).collect()
    }

    #[test]
    fn what_is_waited_for_is_news_only_once_it_is_lost_again() {
        let pending = [Said::no("Programmed", "Pending", "")];
        let served = [Said::yes("Programmed", "Programmed", "")];
        assert_eq!(reasons(&pending, &[]), []);
        assert_eq!(reasons(&served, &pending), [("Programmed".to_owned(), true)]);
        assert_eq!(reasons(&served, &served), []);
        assert_eq!(reasons(&pending, &served), [("Pending".to_owned(), false)]);
    }

    #[test]
    fn another_reason_for_a_refusal_is_news_and_so_is_a_fault() {
        let one = [Said::no("Accepted", "NoMatchingParent", "")];
        let other = [Said::no("Accepted", "NotAllowedByListeners", "")];
        assert_eq!(reasons(&other, &one), [("NotAllowedByListeners".to_owned(), false)]);
        let fine = [Said::no("Conflicted", "NoConflicts", "")];
        let fault = [Said::yes("Conflicted", "HostnameConflict", "")];
        assert_eq!(reasons(&fine, &[]), []);
        assert_eq!(reasons(&fault, &fine), [("HostnameConflict".to_owned(), false)]);
        assert_eq!(reasons(&fine, &fault), [("NoConflicts".to_owned(), true)]);
    }
}
