//! `hythe delete`: by type and name, or by files; waits until the objects are gone.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::json;

use super::{
    manifests,
    resources::{Resources, Served},
    session::{Session, block_on},
};
use crate::instance::Instance;

/// What to delete.
#[derive(Args)]
pub struct DeleteFlags {
    /// TYPE NAME… or TYPE/NAME…
    what: Vec<String>,
    /// Files, directories, or - for standard input.
    #[arg(short, long = "filename", value_name = "F")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Seconds that pods get to end.
    #[arg(long)]
    grace_period: Option<u32>,
    /// Whether to wait until they are gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// Absent objects are no error.
    #[arg(long)]
    ignore_not_found: bool,
}

pub fn run(instance: &Instance, flags: DeleteFlags) -> Result<ExitCode> {
    block_on(async {
        let session = Session::open(instance).await?;
        let resources = Resources::discover(&session).await?;
        let mut targets: Vec<(&Served, String, String)> = Vec::new();
        if !flags.filename.is_empty() {
            let objects = manifests::read(&flags.filename)?;
            for object in objects.iter().rev() {
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&flags.namespace).to_owned();
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                targets.push((resources.of_object(object)?, namespace, name));
            }
        }
        let mut kind: Option<&Served> = None;
        for word in &flags.what {
            match (word.split_once('/'), kind) {
                (Some((kind, name)), _) => {
                    targets.push((resources.named(kind)?[0], flags.namespace.clone(), name.to_owned()));
                }
                (None, Some(kind)) => targets.push((kind, flags.namespace.clone(), word.clone())),
                (None, None) => kind = Some(resources.named(word)?[0]),
            }
        }
        if targets.is_empty() {
            bail!("nothing to delete: give TYPE NAME, TYPE/NAME or -f FILE");
        }
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if let Some(seconds) = flags.grace_period {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        let mut failed = false;
        for (served, namespace, name) in &targets {
            let path = served.path(Some(namespace), Some(name));
            match session
                .call(Method::DELETE, &path, "application/json", "application/json", serde_json::to_vec(&body)?)
                .await
            {
                Ok(_) => println!("{} deleted", served.display(name)),
                Err(error) if flags.ignore_not_found && error.to_string().contains("(NotFound)") => {}
                Err(error) => {
                    failed = true;
                    eprintln!("{error:#}");
                }
            }
        }
        if flags.wait {
            for (served, namespace, name) in &targets {
                // A watch would be quicker to notice; a person does not notice.
                while session.get(&served.path(Some(namespace), Some(name))).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}
