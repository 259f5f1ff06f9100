//! A configuration at work in a process of its own: followed with its file and its certificates.

use std::path::PathBuf;

use serving::{ConfigError, FileWatch, Live, Serving, text};

use crate::config::Config;
use crate::edge::Proxy;
use crate::metrics::SiteCollector;
use crate::site::Site;

/// Reads a configuration as far as it can be judged before it is in force: the files it names, too.
pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    let config = Config::parse(text)?;
    Site::new(config.clone(), None).map_err(|problem| ConfigError::field(problem.field, problem.reason))?;
    Ok(config)
}

/// Serves a configuration, and follows its file and certificates, until the container is told to end.
///
/// # Errors
/// When it cannot begin.
pub async fn serve(
    config: Config,
    live: Option<Live<Config>>,
    serving: Serving,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let proxy = Proxy::start(config, &serving)?;
    let collected = SiteCollector(proxy.shared().clone());
    serving.admin().metrics(|registry| registry.register_collector(Box::new(collected)));
    let shared = proxy.shared().clone();
    serving.admin().route(http::Method::GET, "/v1/comparison", move |_| {
        let site = shared.site();
        let reports: Vec<_> = site
            .listeners
            .iter()
            .flat_map(|l| l.routes())
            .flat_map(|r| &r.mirrors)
            .map(|m| m.comparison.report())
            .collect();
        async move {
            match serde_json::to_vec_pretty(&reports) {
                Ok(json) => {
                    let mut answer = text(http::StatusCode::OK, json);
                    let kind = http::HeaderValue::from_static("application/json");
                    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
                    answer
                }
                Err(error) => text(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
    });
    if let Some(live) = &live {
        live.follow(&serving);
        let (mut versions, proxy) = (live.subscribe(), proxy.clone());
        tokio::spawn(async move {
            while versions.changed().await.is_ok() {
                let next = (**versions.borrow_and_update()).clone();
                if let Err(error) = proxy.reload(next) {
                    tracing::error!(%error, "the new configuration cannot be taken up, the old one goes on");
                }
            }
        });
    }
    tokio::spawn(follow_certificates(proxy.clone()));
    serving.ready();
    serving.stopping().cancelled().await;
    proxy.ended().await;
    Ok(())
}

/// Reads certificates again when their files change.
async fn follow_certificates(proxy: Proxy) {
    loop {
        let site = proxy.shared().site();
        let files: Vec<PathBuf> = site
            .listeners
            .iter()
            .filter_map(|l| l.tls.as_ref())
            .flat_map(|(_, c)| c.files().cloned().collect::<Vec<_>>())
            .collect();
        drop(site);
        let mut replaced = proxy.shared().replaced();
        let news = proxy.report_certificates(std::time::SystemTime::now());
        let turn = async {
            match news {
                // A little later, so that it is true by then; the machine may have slept.
                Some(after) => {
                    tokio::time::sleep(
                        after.min(std::time::Duration::from_secs(86_400)) + std::time::Duration::from_secs(1),
                    )
                    .await
                }
                None => std::future::pending().await,
            }
        };
        let watch = if files.is_empty() { None } else { FileWatch::new(&files).ok() };
        // Read under watch: what has changed since they were read last, or since the watch before this, is not missed.
        if watch.is_some() {
            match proxy.refresh_certificates() {
                Ok(true) => {
                    tracing::info!("new certificates are in force");
                    continue;
                }
                Ok(false) => {}
                Err(error) => tracing::error!(error, "new certificates cannot be used, the old ones go on"),
            }
        }
        match watch {
            None => tokio::select! {
                gone = replaced.changed() => if gone.is_err() { return },
                () = turn => {}
            },
            Some(mut watch) => tokio::select! {
                () = turn => {}
                changed = watch.changed() => if changed.is_err() { return },
                gone = replaced.changed() => if gone.is_err() { return },
            },
        }
    }
}
