//! `hythe kubeconfig`.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};

use crate::instance::Instance;

pub fn run(instance: &Instance) -> Result<ExitCode> {
    let path = instance.kubeconfig();
    let text = fs::read_to_string(&path)
        .with_context(|| format!("no hythe was started on {}: run `hythe up` first", instance.data_dir.display()))?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
