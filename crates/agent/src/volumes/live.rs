//! Volumes whose files come from the API and follow it: configMap, secret, downwardAPI, projected.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
};
use tokio::{sync::watch, task::AbortHandle};

use super::{
    atomic,
    content::{Content, File, mode},
    downward, key_projection,
    key_projection::{Fault, legal_path},
    objects::Followed,
    token,
};
use crate::{context::Context, spec::user::only_user};

/// A volume made of sources.
pub struct Live {
    /// The kubelet's name of the plugin, for the directory.
    pub kind: &'static str,
    sources: Vec<Wanted>,
    default_mode: Option<i32>,
}

enum Wanted {
    ConfigMap { name: String, items: Option<Vec<KeyToPath>>, optional: bool },
    Secret { name: String, items: Option<Vec<KeyToPath>>, optional: bool },
    Downward(Vec<DownwardAPIVolumeFile>),
    Token(ServiceAccountTokenProjection),
}

enum Running {
    ConfigMap { name: String, items: Option<Vec<KeyToPath>>, optional: bool, object: Arc<Followed<ConfigMap>> },
    Secret { name: String, items: Option<Vec<KeyToPath>>, optional: bool, object: Arc<Followed<Secret>> },
    Downward(Vec<DownwardAPIVolumeFile>),
    Token { projection: ServiceAccountTokenProjection, held: tokio::sync::Mutex<Option<token::Token>> },
}

impl Live {
    /// The sources of a volume, if it is of one of these kinds.
    pub fn of(volume: &Volume) -> Option<Self> {
        if let Some(v) = &volume.config_map {
            let wanted =
                Wanted::ConfigMap { name: v.name.clone(), items: v.items.clone(), optional: v.optional == Some(true) };
            return Some(Self { kind: "configmap", sources: vec![wanted], default_mode: v.default_mode });
        }
        if let Some(v) = &volume.secret {
            let name = v.secret_name.clone().unwrap_or_default();
            let wanted = Wanted::Secret { name, items: v.items.clone(), optional: v.optional == Some(true) };
            return Some(Self { kind: "secret", sources: vec![wanted], default_mode: v.default_mode });
        }
        if let Some(v) = &volume.downward_api {
            let wanted = Wanted::Downward(v.items.clone().unwrap_or_default());
            return Some(Self { kind: "downward-api", sources: vec![wanted], default_mode: v.default_mode });
        }
        let v = volume.projected.as_ref()?;
        let mut sources = Vec::new();
        for source in v.sources.iter().flatten() {
            if let Some(s) = &source.config_map {
                sources.push(Wanted::ConfigMap {
                    name: s.name.clone(),
                    items: s.items.clone(),
                    optional: s.optional == Some(true),
                });
            }
            if let Some(s) = &source.secret {
                sources.push(Wanted::Secret {
                    name: s.name.clone(),
                    items: s.items.clone(),
                    optional: s.optional == Some(true),
                });
            }
            if let Some(s) = &source.downward_api {
                sources.push(Wanted::Downward(s.items.clone().unwrap_or_default()));
            }
            if let Some(s) = &source.service_account_token {
                sources.push(Wanted::Token(s.clone()));
            }
        }
        Some(Self { kind: "projected", sources, default_mode: v.default_mode })
    }

    /// Writes the first content to `path`, then keeps it up to date in a task of its own.
    pub async fn start(
        self,
        context: &Arc<Context>,
        pods: watch::Receiver<Arc<Pod>>,
        path: PathBuf,
        fs_group: Option<i64>,
    ) -> Result<AbortHandle, String> {
        let pod = Arc::clone(&pods.borrow());
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let sources = self.sources.into_iter().map(|wanted| follow(context, &namespace, wanted)).collect();
        let updater = Updater {
            context: Arc::clone(context),
            pods,
            sources,
            default_mode: self.default_mode,
            path,
            fs_group,
            namespace,
        };
        // Every source answers once before its changes count, so that nothing in between is missed.
        updater.known().await?;
        let changes = updater.changes();
        updater.write().await?;
        Ok(tokio::spawn(updater.run(changes)).abort_handle())
    }
}

/// Faults as one text, each once, as upstream puts several together.
fn all_of(mut faults: Vec<String>) -> String {
    let mut seen = HashSet::new();
    faults.retain(|fault| seen.insert(fault.clone()));
    if faults.len() == 1 { faults.remove(0) } else { format!("[{}]", faults.join(", ")) }
}

fn follow(context: &Context, namespace: &str, wanted: Wanted) -> Running {
    match wanted {
        Wanted::ConfigMap { name, items, optional } => {
            let object = context.objects.config_map(namespace, &name);
            Running::ConfigMap { name, items, optional, object }
        }
        Wanted::Secret { name, items, optional } => {
            let object = context.objects.secret(namespace, &name);
            Running::Secret { name, items, optional, object }
        }
        Wanted::Downward(items) => Running::Downward(items),
        Wanted::Token(projection) => Running::Token { projection, held: tokio::sync::Mutex::default() },
    }
}

struct Updater {
    context: Arc<Context>,
    pods: watch::Receiver<Arc<Pod>>,
    sources: Vec<Running>,
    default_mode: Option<i32>,
    path: PathBuf,
    fs_group: Option<i64>,
    namespace: String,
}

impl Updater {
    async fn write(&self) -> Result<(), String> {
        let pod = Arc::clone(&self.pods.borrow());
        let mut content = Content::new();
        let mut faults = Vec::new();
        for files in futures::future::join_all(self.sources.iter().map(|s| self.files(s, &pod))).await {
            match files {
                Ok(files) => content.extend(files),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(all_of(faults));
        }
        let (path, fs_group) = (self.path.clone(), self.fs_group);
        let written =
            tokio::task::spawn_blocking(move || atomic::write(&path, &content, fs_group, Timestamp::now())).await;
        match written {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn files(&self, source: &Running, pod: &Pod) -> Result<Content, String> {
        let mode_of = self.default_mode;
        match source {
            Running::ConfigMap { name, items, optional, object } => match object.now().await? {
                Some(map) => {
                    key_projection::project(&key_projection::of_config_map(&map), items.as_deref(), mode_of, *optional)
                        .map_err(Fault::of_config_map)
                }
                None if *optional => Ok(Content::new()),
                None => Err(format!("configmap \"{name}\" not found")),
            },
            Running::Secret { name, items, optional, object } => match object.now().await? {
                Some(secret) => {
                    key_projection::project(&key_projection::of_secret(&secret), items.as_deref(), mode_of, *optional)
                        .map_err(Fault::of_secret)
                }
                None if *optional => Ok(Content::new()),
                None => Err(format!("secret \"{name}\" not found")),
            },
            Running::Downward(items) => downward::project(pod, items, mode_of, self.context.machine.allocatable()),
            Running::Token { projection, held } => {
                let now = Timestamp::now();
                let mut held = held.lock().await;
                if held.as_ref().is_none_or(|t| t.renew_at <= now) {
                    *held = Some(token::request(&self.context.client, pod, projection, now).await?);
                }
                let text = held.as_ref().map(|t| t.text.clone()).unwrap_or_default();
                // The kubelet shows a token to the pod's own user, or to its group, and to no one else.
                let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
                let owner = only_user(pod);
                let kept = owner.is_some() || security.is_some_and(|c| c.fs_group.is_some());
                let mode = if kept { 0o600 } else { mode(None, mode_of) };
                Ok(Content::from([(legal_path(&projection.path)?, File { bytes: text.into_bytes(), mode, owner })]))
            }
        }
    }

    async fn known(&self) -> Result<(), String> {
        for source in &self.sources {
            match source {
                Running::ConfigMap { object, .. } => drop(object.now().await?),
                Running::Secret { object, .. } => drop(object.now().await?),
                Running::Downward(_) | Running::Token { .. } => {}
            }
        }
        Ok(())
    }

    fn changes(&self) -> SelectAll<BoxStream<'static, ()>> {
        let mut all = SelectAll::new();
        for source in &self.sources {
            match source {
                Running::ConfigMap { object, .. } => all.push(stream_of(object.changes())),
                Running::Secret { object, .. } => all.push(stream_of(object.changes())),
                Running::Downward(_) => {
                    let mut pods = self.pods.clone();
                    pods.mark_unchanged();
                    all.push(stream_of(pods));
                }
                Running::Token { .. } => {}
            }
        }
        all
    }

    /// Waits for any change and writes anew. What was written stays when a source goes away, as upstream has it.
    async fn run(self, mut changes: SelectAll<BoxStream<'static, ()>>) {
        let mut retry: Option<Timestamp> = None;
        loop {
            let mut wake = retry.take();
            for source in &self.sources {
                if let Running::Token { held, .. } = source {
                    let renew = held.lock().await.as_ref().map(|t| t.renew_at);
                    wake = match (wake, renew) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
            }
            tokio::select! {
                Some(()) = changes.next() => {}
                () = sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
                else => return,
            }
            if let Err(error) = self.write().await {
                tracing::debug!(namespace = self.namespace, path = %self.path.display(), %error, "a volume keeps its old content");
                retry = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(30)).ok();
            }
        }
    }
}

fn stream_of<T: Send + Sync + 'static>(changes: watch::Receiver<T>) -> BoxStream<'static, ()> {
    futures::stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        Some(((), changes))
    })
    .boxed()
}

async fn sleep_until(at: Timestamp) {
    let wait = at.duration_since(Timestamp::now());
    tokio::time::sleep(std::time::Duration::try_from(wait).unwrap_or_default()).await;
}

#[cfg(test)]
mod tests {
    use super::all_of;

    #[test]
    fn several_faults_are_told_together_and_each_once() {
        let all = |faults: &[&str]| all_of(faults.iter().map(|fault| (*fault).to_owned()).collect());
        assert_eq!(all(&["a", "a"]), "a");
        assert_eq!(all(&["a", "b", "a"]), "[a, b]");
    }
}
