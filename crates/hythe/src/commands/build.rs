//! `hythe build`: an image from a Dockerfile, into the instance's images. Needs no running daemon.

mod agents;
mod flags;

use std::{
    io::Write,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use builder::{Builder, Display};
use engine::{Engine, content::Content};

pub use self::flags::BuildFlags;
use crate::{instance::Instance, up};

pub fn run(instance: &Instance, mut flags: BuildFlags) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("hythe build runs containers, which needs root: run it with sudo");
    }
    let _visit = instance.visit()?;
    let (quiet, id_file) = (flags.quiet, flags.iidfile.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _repository = flags.fetch(&std::env::temp_dir()).await?;
        let request = flags.request()?;
        let engine = Engine::open(up::build_engine_config(instance)).await?;
        engine.adopt().await?;
        let content = Content::open(instance.path("content"))?;
        crate::patterns_image::provide(&content);
        let builder = Builder::open(engine, content, instance.path("build")).await?;
        let start = Instant::now();
        let display = Arc::new(Mutex::new(Display::new()));
        let told = display.clone();
        let show = move |event| {
            let text = told.lock().unwrap_or_else(|e| e.into_inner()).render(&event, start.elapsed());
            if !quiet {
                // Progress is no result: it leaves standard output to archives and IDs. If nobody reads, the build goes on.
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
        };
        // Ended by a signal, the build takes its containers and files with it.
        let built = tokio::select! {
            built = builder.build(request, Arc::new(show)) => built,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        match built {
            Ok(built) => {
                if let Some(path) = id_file {
                    std::fs::write(&path, &built.image).with_context(|| format!("--iidfile {}", path.display()))?;
                }
                match quiet {
                    true => println!("{}", built.image),
                    false => eprint!("{}", display.lock().unwrap_or_else(|e| e.into_inner()).finish(start.elapsed())),
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                if let Some(excerpt) = &error.excerpt {
                    eprintln!("{excerpt}");
                }
                bail!("{error}");
            }
        }
    })
}
