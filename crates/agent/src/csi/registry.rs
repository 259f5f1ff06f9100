//! Drivers come and go with their sockets in `plugins_registry`, and so do device plugins that like it better than the
//! socket of their own: the kernel tells of both.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use directory_watch::{DirectoryWatch, Kinds};
use grpc::{Fields, Message};
use tokio_util::sync::CancellationToken;

use super::{announce, call::call, driver::Driver, held, limit, registry_dir};
use crate::context::Context;

/// Between tries to register one driver.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Follows the directory until `stop`.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    announce::write(&context, &stop).await;
    held::clear(&context).await;
    let directory = registry_dir(context.data_dir());
    if let Err(error) = follow(&context, &directory, &stop).await {
        tracing::warn!(%error, directory = %directory.display(), "CSI drivers that register are not seen");
    }
}

async fn follow(context: &Arc<Context>, directory: &Path, stop: &CancellationToken) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::create_dir_all(context.data_dir().join("plugins"))?;
    let watch = DirectoryWatch::new()?;
    watch.add(directory, Kinds::IN_CREATE | Kinds::IN_DELETE | Kinds::IN_MOVED_TO | Kinds::IN_MOVED_FROM)?;
    // Those that are being registered, by socket; dropping one ends it.
    let mut under_way: BTreeMap<PathBuf, tokio::task::JoinSet<()>> = BTreeMap::new();
    let mut announce = false;
    loop {
        let present = sockets(directory)?;
        for gone in under_way.keys().filter(|known| !present.contains(known)).cloned().collect::<Vec<_>>() {
            under_way.remove(&gone);
            announce |= forget(context, &gone);
        }
        if std::mem::take(&mut announce) {
            announce::write(context, stop).await;
        }
        for socket in present {
            let (context, stop, path) = (context.clone(), stop.clone(), socket.clone());
            under_way.entry(socket).or_insert_with(|| {
                let mut task = tokio::task::JoinSet::new();
                task.spawn(async move { register(&context, &path, &stop).await });
                task
            });
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            events = watch.events() => {
                // A socket that was replaced looks the same afterwards: what was removed is begun anew.
                for event in events? {
                    let went = event.mask.intersects(Kinds::IN_DELETE | Kinds::IN_MOVED_FROM);
                    if let Some(name) = event.name.filter(|_| went) {
                        let path = directory.join(name);
                        under_way.remove(&path);
                        forget(context, &path);
                        announce = true;
                    }
                }
            }
        }
    }
}

fn sockets(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|t| t.is_socket()) {
            all.push(entry.path());
        }
    }
    Ok(all)
}

async fn register(context: &Arc<Context>, socket: &Path, stop: &CancellationToken) {
    let mut rest = FIRST_REST;
    loop {
        match try_register(context, socket, stop).await {
            Ok(Some(plugin)) => {
                let is_driver = matches!(plugin, Plugin::Driver(_));
                let name = match plugin {
                    Plugin::Driver(name) => {
                        announce::write(context, stop).await;
                        tracing::info!(driver = name, "a CSI driver has registered");
                        name
                    }
                    Plugin::Devices(name) => name,
                };
                let status = Message::default().flag(1, true);
                if let Err(error) =
                    call(socket, "pluginregistration.Registration/NotifyRegistrationStatus", &status).await
                {
                    tracing::warn!(plugin = name, %error, "the plugin was not told of its registration");
                }
                if is_driver {
                    limit::keep(context, &name, socket, stop).await;
                }
                return;
            }
            // Another kind of plugin.
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(socket = %socket.display(), error, "a plugin is not registered yet");
                let status = Message::default().text(2, &error);
                let _ = call(socket, "pluginregistration.Registration/NotifyRegistrationStatus", &status).await;
            }
        }
        tokio::time::sleep(rest).await;
        rest = (rest * 2).min(LONGEST_REST);
    }
}

/// Whoever registered by that socket is gone. Whether it was a driver.
fn forget(context: &Context, socket: &Path) -> bool {
    context.devices.withdraw(socket);
    context.csi.remove_by(socket)
}

/// What has registered, by name.
enum Plugin {
    Driver(String),
    Devices(String),
}

async fn try_register(
    context: &Arc<Context>,
    socket: &Path,
    stop: &CancellationToken,
) -> Result<Option<Plugin>, String> {
    let answer = call(socket, "pluginregistration.Registration/GetInfo", &Message::default())
        .await
        .map_err(|e| e.to_string())?;
    let info = Fields::read(&answer);
    let (name, endpoint, versions) = (info.text(2), info.text(3), info.texts(4));
    let endpoint = if endpoint.is_empty() { socket.to_path_buf() } else { PathBuf::from(endpoint) };
    match info.text(1).as_str() {
        "CSIPlugin" => {}
        "DevicePlugin" => {
            context.devices.register_by(socket, &name, endpoint, &versions, stop.clone()).await?;
            return Ok(Some(Plugin::Devices(name)));
        }
        _ => return Ok(None),
    }
    if !versions.iter().any(|v| v.trim_start_matches('v').starts_with("1.")) {
        return Err(format!(
            "failed to get highest supported version for CSI driver {name}: versions {versions:?} are not supported"
        ));
    }
    let driver = Driver::ask(name.clone(), endpoint, socket.to_path_buf()).await.map_err(|e| e.to_string())?;
    context.csi.put(Arc::new(driver));
    context.storage.send_modify(|n| *n += 1);
    Ok(Some(Plugin::Driver(name)))
}
