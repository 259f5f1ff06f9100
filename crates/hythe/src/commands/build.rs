//! `hythe build`: an image from a Dockerfile, into the instance's images. Needs no running daemon.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use builder::{BuildRequest, Builder, Context, Event, Output, RunNetwork, Source};
use clap::Args;
use engine::{Engine, content::Content};

use crate::{instance::Instance, up};

/// What to build.
#[derive(Args)]
pub struct BuildFlags {
    /// The directory that the Dockerfile's files come from.
    context: PathBuf,
    /// The Dockerfile, within the context.
    #[arg(short, long, default_value = "Dockerfile")]
    file: String,
    /// Names for the image.
    #[arg(short, long)]
    tag: Vec<String>,
    /// The stage to stop at.
    #[arg(long)]
    target: Option<String>,
    /// NAME=value, or NAME to take it from the environment.
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// NAME=value.
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Do every step anew.
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for base images that are here.
    #[arg(long)]
    pull: bool,
    /// id=NAME,src=FILE: seen only by RUN --mount=type=secret.
    #[arg(long)]
    secret: Vec<String>,
    /// type=oci|tar,dest=FILE or type=local,dest=DIR.
    #[arg(short, long)]
    output: Option<String>,
    /// host or none.
    #[arg(long, default_value = "host")]
    network: String,
    /// Print the image's ID only.
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(instance: &Instance, flags: BuildFlags) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("hythe build runs containers, which needs root: run it with sudo");
    }
    instance.create()?;
    let quiet = flags.quiet;
    let request = request(flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::open(up::build_engine_config(instance)).await?;
        engine.adopt().await?;
        let content = Content::open(instance.path("content"))?;
        let builder = Builder::open(engine, content, instance.path("build")).await?;
        let display = Arc::new(Display { start: Instant::now(), names: Mutex::default(), quiet });
        let told = display.clone();
        match builder.build(request, Arc::new(move |event| told.show(event))).await {
            Ok(built) => {
                match quiet {
                    true => println!("{}", built.image),
                    false => {
                        let (cached, all) = built.cached;
                        let names = if built.tags.is_empty() {
                            String::new()
                        } else {
                            format!(" as {}", built.tags.join(", "))
                        };
                        println!(
                            "built {}{names} in {:.1} s, {cached} of {all} steps cached",
                            &built.image[..19],
                            display.start.elapsed().as_secs_f64()
                        );
                    }
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

fn request(flags: BuildFlags) -> Result<BuildRequest> {
    let pairs = |flag: &str, list: &[String]| -> Result<BTreeMap<String, String>> {
        list.iter()
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => bail!("--{flag} {pair:?}: NAME=VALUE is wanted"),
            })
            .collect()
    };
    let mut args = BTreeMap::new();
    for pair in &flags.build_arg {
        match pair.split_once('=') {
            Some((name, value)) => drop(args.insert(name.to_owned(), value.to_owned())),
            // As Docker: without a value it comes from the environment, and is left out if it is not there.
            None => args.extend(std::env::var(pair).ok().map(|value| (pair.clone(), value))),
        }
    }
    let mut secrets = BTreeMap::new();
    for secret in &flags.secret {
        let fields: BTreeMap<&str, &str> = secret.split(',').filter_map(|f| f.split_once('=')).collect();
        let (Some(id), Some(file)) = (fields.get("id"), fields.get("src").or(fields.get("source"))) else {
            bail!("--secret {secret:?}: id=NAME,src=FILE is wanted");
        };
        secrets.insert((*id).to_owned(), fs::read(file).with_context(|| format!("--secret {secret}"))?);
    }
    Ok(BuildRequest {
        context: Context::Directory(flags.context),
        dockerfile: Source::Path(flags.file),
        args,
        target: flags.target,
        tags: flags.tag,
        labels: pairs("label", &flags.label)?,
        no_cache: flags.no_cache,
        pull: flags.pull,
        secrets,
        output: flags.output.as_deref().map_or(Ok(Output::Image), output)?,
        network: match flags.network.as_str() {
            "host" | "default" => RunNetwork::Host,
            "none" => RunNetwork::None,
            other => bail!("--network {other:?}: host or none"),
        },
        source_date_epoch: std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|e| e.parse().ok()),
        ..Default::default()
    })
}

fn output(text: &str) -> Result<Output> {
    let fields: BTreeMap<&str, &str> = text.split(',').filter_map(|f| f.split_once('=')).collect();
    let dest = fields.get("dest").with_context(|| format!("--output {text:?}: dest is missing"))?;
    let file = || -> Result<Box<dyn Write + Send>> {
        Ok(Box::new(File::create(dest).with_context(|| format!("--output {text}"))?))
    };
    match fields.get("type").copied() {
        Some("oci") => Ok(Output::Oci(file()?)),
        Some("tar") => Ok(Output::Tar(file()?)),
        Some("local") => Ok(Output::Local(PathBuf::from(dest))),
        _ => bail!("--output {text:?}: type is oci, tar or local"),
    }
}

/// One line a step: when, which stage, what.
struct Display {
    start: Instant,
    names: Mutex<BTreeMap<usize, String>>,
    quiet: bool,
}

impl Display {
    fn show(&self, event: Event) {
        if self.quiet {
            return;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let name = |stage: usize| {
            let names = self.names.lock().unwrap_or_else(|e| e.into_inner());
            names.get(&stage).cloned().unwrap_or_else(|| stage.to_string())
        };
        match event {
            Event::Planned { stages, .. } => {
                let mut names = self.names.lock().unwrap_or_else(|e| e.into_inner());
                *names = stages.into_iter().map(|(stage, name, _)| (stage, name)).collect();
            }
            Event::Warning(text) => eprintln!("warning: {text}"),
            Event::Pulling { stage, line } => println!("{seconds:7.1} [{}] {line}", name(stage)),
            Event::Step { stage, number, total, text } => {
                println!("{seconds:7.1} [{} {number}/{total}] {text}", name(stage));
            }
            Event::Cached { stage } => println!("{seconds:7.1} [{}] cached", name(stage)),
            Event::Output { bytes, error, .. } => {
                let written =
                    if error { std::io::stderr().write_all(&bytes) } else { std::io::stdout().write_all(&bytes) };
                // Nobody reads any more: the build goes on.
                let _ = written;
            }
            _ => {}
        }
    }
}
