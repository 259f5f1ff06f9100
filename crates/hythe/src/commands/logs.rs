//! `hythe logs`.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use super::session::{Session, block_on};
use crate::instance::Instance;

/// Whose logs.
#[derive(Args)]
pub struct LogsFlags {
    /// The pod.
    pod: String,
    /// Its container; needed if it has several.
    #[arg(short, long)]
    container: Option<String>,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Go on as more comes.
    #[arg(short, long)]
    follow: bool,
    /// Of the container's run before this one.
    #[arg(short, long)]
    previous: bool,
    /// Only so many lines from the end.
    #[arg(long)]
    tail: Option<i64>,
    /// With times.
    #[arg(long)]
    timestamps: bool,
}

pub fn run(instance: &Instance, flags: LogsFlags) -> Result<ExitCode> {
    block_on(async {
        let session = Session::open(instance).await?;
        let pods: Api<Pod> = Api::namespaced(session.client, &flags.namespace);
        let params = LogParams {
            container: flags.container,
            follow: flags.follow,
            previous: flags.previous,
            tail_lines: flags.tail,
            timestamps: flags.timestamps,
            ..Default::default()
        };
        let mut stream = pods.log_stream(flags.pod.trim_start_matches("pod/"), &params).await?;
        let mut out = std::io::stdout().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            if stream.read_until(b'\n', &mut line).await? == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            out.write_all(&line)?;
            out.flush()?;
        }
    })
}
