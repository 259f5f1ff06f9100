//! Events, of both API groups.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    age::since,
    cell::{at, number_at, text_at, text_or},
    column::{name, text, wide},
};
use crate::resource::Column;

pub(super) const EVENTS: &[Column] = &[
    text("Last Seen", "Time since it happened last.", |o, now| last_seen(o, now).into()),
    text("Type", "Normal or Warning.", |o, _| text_at(o, "/type").into()),
    text("Reason", "What happened, in a word.", |o, _| text_at(o, "/reason").into()),
    text("Object", "What it happened to.", |o, _| object(o).into()),
    wide("Subobject", "Which part of it.", |o, _| {
        text_or(o, "/involvedObject/fieldPath", text_at(o, "/regarding/fieldPath")).into()
    }),
    wide("Source", "Who reports it.", |o, _| source(o).into()),
    text("Message", "What happened, in words.", |o, _| text_or(o, "/message", text_at(o, "/note")).trim().into()),
    wide("First Seen", "Time since it happened first.", |o, now| first_seen(o, now).into()),
    wide("Count", "How often it happened.", |o, _| count(o).into()),
    Column { format: "name", ..wide("Name", "Name of the event.", name) },
];

fn either<'a>(event: &'a Value, core: &str, events: &str) -> Option<&'a Value> {
    at(event, core).or_else(|| at(event, events))
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = either(event, "/firstTimestamp", "/deprecatedFirstTimestamp");
    since(first.or_else(|| at(event, "/eventTime")), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    if at(event, "/series").is_some() {
        return since(at(event, "/series/lastObservedTime"), now);
    }
    match either(event, "/lastTimestamp", "/deprecatedLastTimestamp") {
        Some(last) => since(Some(last), now),
        None => first_seen(event, now),
    }
}

fn count(event: &Value) -> i64 {
    if at(event, "/series").is_some() {
        return number_at(event, "/series/count");
    }
    match either(event, "/count", "/deprecatedCount").and_then(Value::as_i64) {
        None | Some(0) => 1,
        Some(count) => count,
    }
}

fn object(event: &Value) -> String {
    let Some(object) = either(event, "/involvedObject", "/regarding") else {
        return String::new();
    };
    let kind = text_at(object, "/kind").to_lowercase();
    match text_at(object, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let source = either(event, "/source", "/deprecatedSource").unwrap_or(&Value::Null);
    let controller = text_or(event, "/reportingComponent", text_at(event, "/reportingController"));
    let component = text_or(source, "/component", controller);
    match text_or(source, "/host", text_at(event, "/reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}
