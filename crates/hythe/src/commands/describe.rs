//! `hythe describe`: one object in a readable form, with its events.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::{
    get::escape,
    resources::Resources,
    session::{Session, block_on},
};
use crate::instance::Instance;

/// What to describe.
#[derive(Args)]
pub struct DescribeFlags {
    /// TYPE NAME or TYPE/NAME.
    #[arg(required = true, num_args = 1..=2)]
    what: Vec<String>,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

pub fn run(instance: &Instance, flags: DescribeFlags) -> Result<ExitCode> {
    let (kind, name) = match flags.what.as_slice() {
        [kind, name] => (kind.as_str(), name.as_str()),
        [both] => match both.split_once('/') {
            Some(pair) => pair,
            None => bail!("give TYPE NAME or TYPE/NAME"),
        },
        _ => bail!("give TYPE NAME or TYPE/NAME"),
    };
    block_on(async {
        let session = Session::open(instance).await?;
        let resources = Resources::discover(&session).await?;
        let served = resources.named(kind)?[0];
        let mut object = session.get(&served.path(Some(&flags.namespace), Some(name))).await?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        if served.kind == "Secret"
            && let Some(data) = object["data"].as_object_mut()
        {
            // As kubectl: sizes, never contents.
            for value in data.values_mut() {
                *value = format!("{} bytes", value.as_str().map_or(0, |v| v.len() / 4 * 3)).into();
            }
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        print(&object, 0);
        let selector = escape(&format!("involvedObject.uid={uid}"));
        let events = session.get(&format!("/api/v1/events?fieldSelector={selector}")).await?;
        match events["items"].as_array().filter(|e| !e.is_empty()) {
            None => println!("Events:  <none>"),
            Some(events) => {
                println!("Events:");
                for event in events {
                    let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    let count =
                        event["count"].as_i64().filter(|c| *c > 1).map(|c| format!(" (x{c})")).unwrap_or_default();
                    println!("  {:8} {:20} {}{count}", word("type"), word("reason"), word("message"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `Title:  value`, nested by two blanks.
fn print(value: &Value, depth: usize) {
    let Some(fields) = value.as_object() else { return };
    let indent = "  ".repeat(depth);
    for (key, value) in fields {
        match value {
            Value::Object(inner) if inner.is_empty() => println!("{indent}{key}:  {{}}"),
            Value::Object(_) => {
                println!("{indent}{key}:");
                print(value, depth + 1);
            }
            Value::Array(items) if items.iter().all(|i| !i.is_object()) => {
                let words: Vec<String> = items.iter().map(plain).collect();
                println!("{indent}{key}:  {}", words.join(", "));
            }
            Value::Array(items) => {
                println!("{indent}{key}:");
                for item in items {
                    println!("{indent}  -");
                    print(item, depth + 2);
                }
            }
            scalar => println!("{indent}{key}:  {}", plain(scalar)),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
