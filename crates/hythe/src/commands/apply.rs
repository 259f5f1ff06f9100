//! `hythe apply`: server-side apply of objects from files.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use http::Method;

use super::{
    manifests,
    resources::Resources,
    session::{Session, block_on},
};
use crate::instance::Instance;

/// What to apply.
#[derive(Args)]
pub struct ApplyFlags {
    /// Files, directories, or - for standard input.
    #[arg(short, long = "filename", value_name = "F", required = true)]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Take fields over from other managers.
    #[arg(long)]
    force_conflicts: bool,
}

pub fn run(instance: &Instance, flags: ApplyFlags) -> Result<ExitCode> {
    let objects = manifests::read(&flags.filename)?;
    block_on(async {
        let session = Session::open(instance).await?;
        let resources = Resources::discover(&session).await?;
        let mut failed = 0;
        for object in &objects {
            let applied = async {
                let served = resources.of_object(object)?;
                let Some(name) = object["metadata"]["name"].as_str() else { bail!("metadata.name is not set") };
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&flags.namespace);
                let path = format!(
                    "{}?fieldManager=hythe&fieldValidation=Strict&force={}",
                    served.path(Some(namespace), Some(name)),
                    flags.force_conflicts
                );
                let existed = session.get(&served.path(Some(namespace), Some(name))).await.ok();
                let body = serde_json::to_vec(object)?;
                let now = session
                    .call(Method::PATCH, &path, "application/json", "application/apply-patch+yaml", body)
                    .await?;
                let word = match existed {
                    None => "created",
                    Some(before) if before["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"] => {
                        "unchanged"
                    }
                    Some(_) => "configured",
                };
                println!("{} {word}", served.display(name));
                Ok(())
            };
            if let Err(error) = applied.await {
                failed += 1;
                let what = format!(
                    "{} {}",
                    object["kind"].as_str().unwrap_or("?"),
                    object["metadata"]["name"].as_str().unwrap_or("?")
                );
                eprintln!("error: {what}: {error:#}");
            }
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}
