//! Instructions that change the configuration alone.

use engine::content::Healthcheck;
use serde_json::json;

use super::{Failure, Stage, joined};
use crate::dockerfile::{Command, Form};
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
                    all.extend(port_range(&port)?);
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
                check_signal(&signal)?;
                self.metadata(&format!("STOPSIGNAL {signal}"), |process| process.stop_signal = Some(signal)).await?;
            }
            Command::Healthcheck(health) => {
                let check = match &health.checks {
                    None => Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() },
                    Some(checks) => Healthcheck {
                        test: test(&checks.form),
                        interval: checks.interval,
                        timeout: checks.timeout,
                        start_period: checks.start_period,
                        start_interval: checks.start_interval,
                        retries: checks.retries,
                    },
                };
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

fn test(form: &Form) -> Vec<String> {
    let kind = if form.shell { "CMD-SHELL" } else { "CMD" };
    [vec![kind.to_owned()], form.args.clone()].concat()
}

/// `80`, `80/udp`, `8000-8010/tcp` → `PORT/PROTOCOL` each.
fn port_range(text: &str) -> Result<Vec<String>, Kind> {
    let invalid = || Kind::invalid(format!("invalid containerPort: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Kind::invalid(format!("invalid proto: {protocol}")));
    }
    // What stands before a colon was a host port once; Docker takes the last part.
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A number from 1 to 64, or a name with or without `SIG`.
fn check_signal(text: &str) -> Result<(), Kind> {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |sign: &str| name.strip_prefix(sign).is_some_and(|rest| rest.parse::<u8>().is_ok_and(|n| n <= 15));
    let known = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || NAMES.contains(&name)
        || matches!(name, "XFSZ" | "RTMIN" | "RTMAX")
        || offset("RTMIN+")
        || offset("RTMAX-");
    if known { Ok(()) } else { Err(Kind::invalid(format!("invalid signal: {text}"))) }
}
