//! `hythe get`: tables as the server prints them, or whole objects.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{
    resources::Resources,
    session::{Session, block_on},
    table,
};
use crate::instance::Instance;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What to show.
#[derive(Args)]
pub struct GetFlags {
    /// A type or several (`pods`, `deploy,svc`, `all`), or TYPE/NAME.
    #[arg(value_name = "TYPE")]
    types: String,
    /// Names; all objects without one.
    names: Vec<String>,
    /// Namespace to look in.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Look in all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// `wide`, `yaml`, `json` or `name`.
    #[arg(short, long)]
    output: Option<String>,
}

pub fn run(instance: &Instance, mut flags: GetFlags) -> Result<ExitCode> {
    if let Some((kind, name)) = flags.types.clone().split_once('/') {
        flags.types = kind.to_owned();
        flags.names.insert(0, name.to_owned());
    }
    block_on(async {
        let session = Session::open(instance).await?;
        let resources = Resources::discover(&session).await?;
        let kinds = resources.named(&flags.types)?;
        let several = kinds.len() > 1;
        let namespace = (!flags.all_namespaces).then_some(flags.namespace.as_str());
        let mut objects: Vec<Value> = Vec::new();
        let mut blocks = 0;
        for served in kinds {
            let mut paths: Vec<String> = flags.names.iter().map(|name| served.path(namespace, Some(name))).collect();
            if paths.is_empty() {
                let query =
                    flags.selector.as_ref().map(|s| format!("?labelSelector={}", escape(s))).unwrap_or_default();
                paths.push(served.path(namespace, None) + &query);
            }
            match flags.output.as_deref() {
                None | Some("wide") => {
                    let mut rows: Option<Value> = None;
                    for path in paths {
                        let one = session.call(Method::GET, &path, TABLE, "application/json", Vec::new()).await?;
                        match (&mut rows, one["rows"].as_array()) {
                            (Some(all), Some(more)) => {
                                if let Some(list) = all["rows"].as_array_mut() {
                                    list.extend(more.iter().cloned());
                                }
                            }
                            _ => rows = Some(one),
                        }
                    }
                    let rows = rows.unwrap_or(Value::Null);
                    if rows["rows"].as_array().is_none_or(Vec::is_empty) {
                        continue;
                    }
                    if blocks > 0 {
                        println!();
                    }
                    blocks += 1;
                    let prefix = if several { served.display("") } else { String::new() };
                    let with_namespace = flags.all_namespaces && served.namespaced;
                    for line in table::render(&rows, flags.output.is_some(), with_namespace, &prefix) {
                        println!("{line}");
                    }
                }
                Some("name") => {
                    for path in paths {
                        for object in items(session.get(&path).await?) {
                            println!("{}", served.display(object["metadata"]["name"].as_str().unwrap_or_default()));
                            blocks += 1;
                        }
                    }
                }
                Some("yaml" | "json") => {
                    for path in paths {
                        objects.extend(items(session.get(&path).await?));
                    }
                }
                Some(other) => bail!("unknown output format {other:?}: wide, yaml, json or name"),
            }
        }
        match flags.output.as_deref() {
            Some(format @ ("yaml" | "json")) => {
                let document = match <[Value; 1]>::try_from(objects) {
                    Ok([one]) if !flags.names.is_empty() => one,
                    Ok(one) => json!({"apiVersion": "v1", "kind": "List", "items": one}),
                    Err(objects) => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
                };
                match format {
                    "json" => println!("{}", serde_json::to_string_pretty(&document)?),
                    _ => print!("{}", serde_yaml_ng::to_string(&document)?),
                }
            }
            _ if blocks == 0 && flags.all_namespaces => eprintln!("No resources found"),
            _ if blocks == 0 => eprintln!("No resources found in {} namespace.", flags.namespace),
            _ => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The items of a list (which do not say their own kind), or the object itself.
fn items(value: Value) -> Vec<Value> {
    let Some(list) = value["items"].as_array() else { return vec![value] };
    let kind = value["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
    list.iter()
        .map(|item| {
            let mut whole = json!({"apiVersion": value["apiVersion"], "kind": kind});
            if let (Some(whole), Some(item)) = (whole.as_object_mut(), item.as_object()) {
                whole.extend(item.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            whole
        })
        .collect()
}

/// Percent-encodes a query value.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
