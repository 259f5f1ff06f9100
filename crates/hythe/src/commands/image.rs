//! `hythe image …`: works on the instance's content directly, so it needs no running daemon.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::Subcommand;
use engine::content::{Content, Image, PullOptions, Reference};

use super::session::block_on;
use crate::{instance::Instance, patterns_image};

#[derive(Subcommand)]
pub enum ImageCommand {
    /// Fetch an image from its registry.
    Pull {
        /// For instance `redis:7` or `localhost:5000/app@sha256:…`.
        reference: String,
        /// Speak plain HTTP to this registry (loopback ones always are).
        #[arg(long, value_name = "HOST[:PORT]")]
        insecure_registry: Vec<String>,
    },
    /// Add an image from a file: a docker-archive, an OCI archive or layout, or a plain root file system.
    Import {
        /// The archive or the layout's directory.
        file: PathBuf,
        /// Its name, if the file does not tell.
        reference: Option<String>,
    },
    /// List images.
    Ls {
        /// With whole digests.
        #[arg(long)]
        digests: bool,
    },
    /// Remove images by name or ID.
    Rm {
        /// Names or IDs.
        #[arg(required = true)]
        images: Vec<String>,
        /// Even if a container uses it.
        #[arg(short, long)]
        force: bool,
    },
    /// Save the image of the pattern containers, which comes with this program, for other engines and clusters.
    Patterns {
        /// The archive: an OCI layout that `docker load` takes as well.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Save the image of the operator, which is this program, for other clusters (see `hythe operator --print-manifests`).
    Operator {
        /// The archive: an OCI layout that `docker load` takes as well.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show an image's configuration as JSON.
    Inspect {
        /// Name or ID.
        image: String,
    },
}

pub fn run(instance: &Instance, command: ImageCommand) -> Result<ExitCode> {
    if let ImageCommand::Patterns { output } = command {
        patterns_image::write(&output).with_context(|| output.display().to_string())?;
        println!("{}", pattern_containers::image::NAME);
        return Ok(ExitCode::SUCCESS);
    }
    if let ImageCommand::Operator { output } = command {
        pattern_containers::image::write_operator(&output).with_context(|| output.display().to_string())?;
        println!("{}", pattern_containers::image::OPERATOR);
        return Ok(ExitCode::SUCCESS);
    }
    instance.create_data()?;
    let content = Content::open(instance.path("content"))?;
    patterns_image::provide(&content);
    match command {
        ImageCommand::Patterns { .. } | ImageCommand::Operator { .. } => unreachable!("they need no instance"),
        ImageCommand::Pull { reference, insecure_registry } => {
            let options = PullOptions {
                insecure_registries: insecure_registry,
                progress: Some(Arc::new(|line: &str| eprintln!("{line}"))),
                ..Default::default()
            };
            let image = block_on(async { Ok(content.pull(&reference, &options).await?) })?;
            println!("{}", image.digests.first().map_or(image.id.as_str(), String::as_str));
        }
        ImageCommand::Import { file, reference } => {
            for image in content.import(&file, reference.as_deref())? {
                println!("{} {}", familiar(&image), image.id);
            }
        }
        ImageCommand::Ls { digests } => list(&content, digests)?,
        ImageCommand::Rm { images, force } => {
            for name in images {
                let (names, gone) = content.remove_image(&name, force)?;
                for name in names {
                    println!("Untagged: {name}");
                }
                if gone {
                    println!("Deleted: {name}");
                }
            }
        }
        ImageCommand::Inspect { image } => {
            let image = content.image(&image)?;
            let document = serde_json::json!({
                "id": image.id, "manifest": image.manifest, "tags": image.tags, "digests": image.digests,
                "size": image.size, "config": image.config,
            });
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(content: &Content, digests: bool) -> Result<()> {
    println!("{:50} {:16} SIZE", "IMAGE", "ID");
    for image in content.images()? {
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        for name in names {
            let shown = Reference::parse(name).map(|r| r.familiar()).unwrap_or_else(|_| name.clone());
            let id = if digests { image.id.as_str() } else { &image.id.hex()[..12] };
            println!("{shown:50} {id:16} {:.1} MB", image.size as f64 / 1e6);
        }
    }
    Ok(())
}

fn familiar(image: &Image) -> String {
    let name = image.tags.first().or(image.digests.first());
    name.and_then(|n| Reference::parse(n).ok()).map(|r| r.familiar()).unwrap_or_default()
}
