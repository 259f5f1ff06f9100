//! Instructions that change the configuration alone.

use serde_json::json;

use super::{Failure, Stage, joined};
use crate::dockerfile::{Command, check_signal, port_range};
use crate::error::Kind;

impl Stage {
    pub(super) async fn configure(&mut self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Env(pairs) => {
                let pairs = self.expand_pairs(pairs)?;
                self.metadata(&format!("ENV {}", joined(&pairs)), |process| {
                    for (name, value) in pairs {
                        let entry = format!("{name}={value}");
                        match process.env.iter_mut().find(|own| own.split('=').next() == Some(&name)) {
                            Some(own) => *own = entry,
                            None => process.env.push(entry),
                        }
                    }
                })
                .await?;
            }
            Command::Label(pairs) => {
                let pairs = self.expand_pairs(pairs)?;
                self.metadata(&format!("LABEL {}", joined(&pairs)), |process| process.labels.extend(pairs)).await?;
            }
            Command::Arg(variables) => {
                let mut notes = Vec::new();
                for variable in variables {
                    let name = self.expand(&variable.name)?;
                    let value = self.argument(&name, variable.default.as_deref())?;
                    notes.push(match &variable.default {
                        Some(default) => format!("{name}={default}"),
                        None => name.clone(),
                    });
                    self.args.retain(|(own, _)| *own != name);
                    self.args.push((name, value));
                }
                self.metadata(&format!("ARG {}", notes.join(" ")), |_| ()).await?;
            }
            Command::Cmd(form) => {
                let line = self.command_line(form);
                self.metadata(&format!("CMD {}", json!(line)), |process| process.cmd = line).await?;
                self.command_set = true;
            }
            Command::Entrypoint(form) => {
                let line = self.command_line(form);
                let keep = self.command_set;
                self.metadata(&format!("ENTRYPOINT {}", json!(line)), |process| {
                    process.entrypoint = line;
                    if !keep {
                        process.cmd.clear();
                    }
                })
                .await?;
            }
            Command::Shell(shell) => {
                let shell = shell.clone();
                self.metadata(&format!("SHELL {}", json!(shell)), |process| process.shell = shell).await?;
            }
            Command::Expose(ports) => {
                let mut all = Vec::new();
                for port in self.expand_words(ports)? {
                    all.extend(port_range(&port).map_err(Kind::invalid)?);
                }
                all.sort();
                self.metadata(&format!("EXPOSE {}", all.join(" ")), |process| {
                    process.exposed_ports.extend(all.into_iter().map(|port| (port, json!({}))));
                })
                .await?;
            }
            Command::Volume(paths) => {
                let mut all = Vec::new();
                for path in paths {
                    all.push(self.expand(path)?.trim().to_owned());
                }
                if all.iter().any(String::is_empty) {
                    return Err(Kind::invalid("VOLUME specified can not be an empty string").into());
                }
                self.metadata(&format!("VOLUME {}", json!(all)), |process| {
                    process.volumes.extend(all.into_iter().map(|path| (path, json!({}))));
                })
                .await?;
            }
            Command::User(user) => {
                let user = self.expand(user)?;
                self.metadata(&format!("USER {user}"), |process| process.user = user).await?;
            }
            Command::Onbuild(trigger) => {
                let trigger = trigger.clone();
                self.metadata(&format!("ONBUILD {trigger}"), |process| process.on_build.push(trigger)).await?;
            }
            Command::Stopsignal(signal) => {
                let signal = self.expand(signal)?;
                check_signal(&signal).map_err(Kind::invalid)?;
                self.metadata(&format!("STOPSIGNAL {signal}"), |process| process.stop_signal = Some(signal)).await?;
            }
            Command::Healthcheck(health) => {
                let check = health.told();
                let note = format!("HEALTHCHECK {}", serde_json::to_string(&check).expect("a check is always JSON"));
                self.metadata(&note, |process| process.healthcheck = Some(check)).await?;
            }
            Command::Maintainer(author) => {
                let note = format!("MAINTAINER {author}");
                self.built.config.author = Some(author.clone());
                self.metadata(&note, |_| ()).await?;
            }
            Command::From { .. } | Command::Run { .. } | Command::Copy(_) | Command::Add(_) | Command::Workdir(_) => {
                return Err(Kind::invalid("not an instruction that only configures").into());
            }
        }
        Ok(())
    }

    fn expand_pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Kind> {
        // All of them see the environment as it was before this instruction.
        pairs.iter().map(|(name, value)| Ok((self.expand(name)?, self.expand(value)?))).collect()
    }
}
