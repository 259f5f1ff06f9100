//! The Dockerfile builder behind `POST /build`.

use std::path::PathBuf;

use builder::{BuildRequest, Builder, Classic, Context, Event, Kind, RunNetwork, Source};
use docker_api::{BuildFailure, BuildOptions, BuildProgress, ImageBuilder};
use engine::Namespace;
use futures::future::BoxFuture;

/// The seam's other side.
pub struct Dockerfiles(pub Builder);

impl ImageBuilder for Dockerfiles {
    fn build(
        &self,
        context: PathBuf,
        options: BuildOptions,
        progress: BuildProgress,
    ) -> BoxFuture<'static, Result<String, BuildFailure>> {
        let builder = self.0.clone();
        Box::pin(async move {
            let failed = |message: String| BuildFailure { message, code: 0 };
            let file = std::fs::File::open(&context).map_err(|error| failed(error.to_string()))?;
            let request = BuildRequest {
                context: Context::Tar(Box::new(file)),
                dockerfile: Source::Path(options.dockerfile),
                args: options.build_args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
                target: options.target,
                tags: options.tags,
                labels: options.labels,
                no_cache: options.no_cache,
                pull: options.pull,
                network: match options.network {
                    Namespace::Host => RunNetwork::Host,
                    Namespace::New => RunNetwork::None,
                    Namespace::Path(path) => RunNetwork::Path(path),
                },
                resolv_conf: options.resolv_conf,
                extra_hosts: options
                    .extra_hosts
                    .iter()
                    .filter_map(|line| line.split_once(':'))
                    .map(|(name, address)| (name.to_owned(), address.to_owned()))
                    .collect(),
                platform: Some(options.platform).filter(|platform| !platform.is_empty()),
                shm_size: Some(options.shm_size).filter(|size| *size > 0),
                ..BuildRequest::default()
            };
            let classic = std::sync::Arc::new(std::sync::Mutex::new(Classic::new()));
            let (renderer, say) = (classic.clone(), progress.clone());
            let told = std::sync::Arc::new(move |event: Event| {
                for piece in renderer.lock().expect("no renderer panics").render(event) {
                    say(&piece.text);
                }
            });
            match builder.build(request, told).await {
                Ok(output) => Ok(output.image),
                Err(error) => {
                    for piece in classic.lock().expect("no renderer panics").finish() {
                        progress(&piece.text);
                    }
                    let code = match &error.kind {
                        Kind::Exit { code, .. } => *code,
                        _ => 0,
                    };
                    Err(BuildFailure { message: error.to_string(), code })
                }
            }
        })
    }
}
