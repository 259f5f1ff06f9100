//! `RUN`: what it is run with, and what makes it the same step again.

use std::collections::BTreeMap;

use super::{Failure, PROXIES, Stage};
use crate::copy::Copy;
use crate::dockerfile::{Copying, Form, Heredoc, Mount, MountKind};
use crate::error::Kind;
use crate::run::{self, ReadyMount};

impl Stage {
    pub(super) async fn run_command(
        &mut self,
        form: &Form,
        heredocs: &[Heredoc],
        mounts: &[Mount],
        network: Option<String>,
    ) -> Result<(), Failure> {
        let (form, script) = with_heredocs(form, heredocs);
        let mut args = self.command_line(&form);
        if let Some((_, path)) = &script {
            args = vec![path.clone()];
        }
        let process = &self.built.config.config;
        // Arguments that the environment does not hide.
        let set = |name: &str| process.env.iter().any(|entry| entry.split('=').next() == Some(name));
        let mut used: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &self.args {
            if let Some(value) = value.as_ref().filter(|_| !set(name) && !PROXIES.contains(&name.as_str())) {
                used.insert(name.clone(), value.clone());
            }
        }
        let mut env = process.env.clone();
        env.extend(used.iter().map(|(name, value)| format!("{name}={value}")));
        for name in PROXIES {
            if let Some(value) = self.work.settings.args.get(name).filter(|_| !set(name)) {
                env.push(format!("{name}={value}"));
            }
        }
        let shown = args.join(" ");
        let script_text = script.as_ref().map(|(text, _)| text.clone()).unwrap_or_default();
        let created_by = match used.len() {
            0 => shown.clone(),
            count => {
                let list: Vec<String> = used.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("|{count} {} {shown}", list.join(" "))
            }
        };
        let mut key = self.key().text(&created_by).text(&script_text).text(&format!("{args:?}"));
        key = key.text(network.as_deref().unwrap_or_default());
        let ready = self.mounts(mounts).await?;
        for mount in &ready {
            key = key.text(&self.mount_key(mount).await?);
        }
        // History does not hold what a script of its own or a mount brings.
        let told = script.is_none() && ready.is_empty();
        let record = match self.find(&key, told.then_some(created_by.as_str())) {
            Some(record) => record,
            None => {
                let command = run::Command {
                    stage: self.index,
                    args,
                    env,
                    user: process.user.clone(),
                    cwd: process.working_dir.clone(),
                    network,
                    mounts: ready,
                    script,
                    shown,
                };
                let layer = run::run(&self.work, &self.built.layers, command).await?;
                self.keep(&key, &format!("RUN {created_by}"), Some(layer))?
            }
        };
        self.commit(record, created_by);
        Ok(())
    }

    async fn mounts(&self, mounts: &[Mount]) -> Result<Vec<ReadyMount>, Failure> {
        let mut ready = Vec::new();
        for mount in mounts {
            let mut kind = mount.kind.clone();
            let mut origin = None;
            if let MountKind::Bind { from, source, .. } | MountKind::Cache { from, source, .. } = &mut kind {
                *source = self.expand(source)?;
                if let Some(name) = from.as_deref() {
                    origin = Some(self.origin(&self.expand(name)?).await?);
                }
            }
            if let MountKind::Cache { id: Some(id), .. } | MountKind::Secret { id, .. } | MountKind::Ssh { id, .. } =
                &mut kind
            {
                *id = self.expand(id)?;
            }
            let target = self.expand(&mount.target)?;
            let own = target.is_empty() && matches!(kind, MountKind::Secret { .. } | MountKind::Ssh { .. });
            let target = if own { target } else { self.absolute(&target).trim_end_matches('/').to_owned() };
            if target.is_empty() && !own {
                return Err(Kind::invalid("invalid mount target \"/\"").into());
            }
            ready.push(ReadyMount { kind, target, from: origin });
        }
        Ok(ready)
    }

    /// What of a mount makes a `RUN` another one: bound files count with their contents; caches and secrets don't.
    async fn mount_key(&self, mount: &ReadyMount) -> Result<String, Kind> {
        let MountKind::Bind { source, .. } = &mount.kind else {
            return Ok(format!("{:?} {}", mount.kind, mount.target));
        };
        let copying = Copying { sources: vec![source.clone()], ..Copying::default() };
        let copy = Copy {
            name: "RUN",
            copying,
            destination: mount.target.clone(),
            from: mount.from.clone(),
            fetched: Vec::new(),
            repositories: Vec::new(),
        };
        let sum = self.work.blocking(move |work| Ok(copy.gather(work)?.sum)).await?;
        Ok(format!("bind {sum} {}", mount.target))
    }
}

/// A command with its here-documents: a lone one is the script itself, others are left to the shell.
fn with_heredocs(form: &Form, heredocs: &[Heredoc]) -> (Form, Option<(String, String)>) {
    let (Some(first), true) = (heredocs.first(), form.shell) else { return (form.clone(), None) };
    let text = form.args.first().cloned().unwrap_or_default();
    let alone =
        heredocs.len() == 1 && !text.trim().contains(char::is_whitespace) && text.trim_start().starts_with("<<");
    if alone {
        let data = first.data();
        if data.starts_with("#!") {
            return (form.clone(), Some((data, format!("/dev/pipes/{}", first.name))));
        }
        return (Form { shell: true, args: vec![data] }, None);
    }
    let mut whole = text;
    for heredoc in heredocs {
        whole.push('\n');
        whole.push_str(&heredoc.content);
        whole.push_str(&heredoc.name);
    }
    (Form { shell: true, args: vec![whole] }, None)
}
