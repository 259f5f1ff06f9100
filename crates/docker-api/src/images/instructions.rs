//! `--change` of `commit` and `import`: Dockerfile instructions that only touch the configuration.

use builder::dockerfile::{Command, Expander, Form, Instruction, check_signal, port_range};
use serde_json::{Value, json};

use crate::error::{ApiError, Result};

/// Applies instructions to Docker's `Config`.
pub(crate) fn apply(config: &mut Value, changes: &[String]) -> Result<()> {
    let mut commanded = false;
    for change in changes.iter().map(|change| change.trim()).filter(|change| !change.is_empty()) {
        let instruction = Instruction::parse_one(change).map_err(|error| ApiError::bad(error.to_string()))?;
        let text = |text: &str| expanded(config, text);
        match &instruction.command {
            Command::Cmd(form) => {
                config["Cmd"] = command(config, form);
                commanded = true;
            }
            Command::Entrypoint(form) => {
                config["Entrypoint"] = command(config, form);
                // The arguments that were there are another program's, but for those just given.
                if !commanded {
                    config["Cmd"] = Value::Null;
                }
            }
            Command::User(user) => config["User"] = text(user)?.into(),
            Command::Workdir(path) => {
                let path = text(path)?;
                let before = config["WorkingDir"].as_str().unwrap_or_default();
                let (before, path) = (if path.starts_with('/') { "" } else { before }, path.trim_end_matches('/'));
                config["WorkingDir"] =
                    format!("{}/{}", before.trim_end_matches('/'), path.trim_start_matches('/')).into();
            }
            Command::Stopsignal(signal) => {
                let signal = text(signal)?;
                check_signal(&signal).map_err(ApiError::bad)?;
                config["StopSignal"] = signal.into();
            }
            Command::Env(pairs) => {
                let mut env: Vec<String> = serde_json::from_value(config["Env"].clone()).unwrap_or_default();
                // All of an instruction's values see the variables from before it.
                for (name, value) in pairs {
                    let (name, value) = (text(name)?, text(value)?);
                    let variable = format!("{name}={value}");
                    match env.iter_mut().find(|entry| entry.split('=').next() == Some(name.as_str())) {
                        Some(present) => *present = variable,
                        None => env.push(variable),
                    }
                }
                config["Env"] = json!(env);
            }
            Command::Label(pairs) => {
                for (name, value) in pairs {
                    let (name, value) = (expanded(config, name)?, expanded(config, value)?);
                    object(config, "Labels").insert(name, value.into());
                }
            }
            Command::Expose(ports) => {
                for port in ports {
                    for word in expanded(config, port)?.split_whitespace() {
                        let ports = port_range(word).map_err(ApiError::bad)?;
                        object(config, "ExposedPorts").extend(ports.into_iter().map(|port| (port, json!({}))));
                    }
                }
            }
            Command::Volume(paths) => {
                for path in paths {
                    let path = expanded(config, path)?;
                    object(config, "Volumes").insert(path, json!({}));
                }
            }
            Command::Onbuild(trigger) => {
                let mut list: Vec<String> = serde_json::from_value(config["OnBuild"].clone()).unwrap_or_default();
                list.push(trigger.clone());
                config["OnBuild"] = json!(list);
            }
            Command::Healthcheck(health) => config["Healthcheck"] = json!(health.told()),
            Command::From { .. }
            | Command::Run { .. }
            | Command::Shell(_)
            | Command::Arg(_)
            | Command::Copy(_)
            | Command::Add(_)
            | Command::Maintainer(_) => {
                let name = change.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
                return Err(ApiError::bad(format!("{name} is not a valid change command")));
            }
        }
    }
    Ok(())
}

/// A text with the configuration's variables in their places, and without its quotes.
fn expanded(config: &Value, text: &str) -> Result<String> {
    let variables = config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let variables: Vec<(&str, &str)> = variables.filter_map(|entry| entry.split_once('=')).collect();
    let lookup = |name: &str| {
        let found = variables.iter().rev().find(|(own, _)| *own == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let expander = Expander::new('\\', &lookup);
    expander.word(text).map_err(|error| ApiError::bad(error.to_string()))
}

fn object<'a>(config: &'a mut Value, key: &str) -> &'a mut serde_json::Map<String, Value> {
    if !config[key].is_object() {
        config[key] = json!({});
    }
    config[key].as_object_mut().expect("made an object just now")
}

/// The exec form as it is; the other one is for a shell.
fn command(config: &Value, form: &Form) -> Value {
    if !form.shell {
        return json!(form.args);
    }
    let own: Vec<String> = serde_json::from_value(config["Shell"].clone()).unwrap_or_default();
    let shell = if own.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { own };
    json!([shell, form.args.clone()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_for_what_they_were_before_the_instruction() {
        let mut config = json!({"Env": ["PATH=/bin"]});
        apply(&mut config, &["ENV PATH=/usr/bin:$PATH B=${PATH}x".into(), "WORKDIR $B".into()]).unwrap();
        assert_eq!(config, json!({"Env": ["PATH=/usr/bin:/bin", "B=/binx"], "WorkingDir": "/binx"}));
    }

    #[test]
    fn instructions_change_the_configuration() {
        let mut config = json!({"Env": ["A=1"], "Cmd": ["x"]});
        let changes = [
            "ENV A=2 B='c d'",
            "CMD [\"sh\"]",
            "EXPOSE 80",
            "LABEL k=v",
            "WORKDIR /w",
            "VOLUME /data",
            "HEALTHCHECK --interval=5s --retries=3 CMD true",
            "WORKDIR deeper/",
            "EXPOSE 90-91/udp",
        ];
        apply(&mut config, &changes.map(String::from)).unwrap();
        assert_eq!(
            config,
            json!({
                "Env": ["A=2", "B=c d"], "Cmd": ["sh"], "Labels": {"k": "v"}, "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}}, "WorkingDir": "/w/deeper",
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64, "Timeout": 0, "StartPeriod": 0,
                    "StartInterval": 0, "Retries": 3,
                },
            })
        );
        for (change, words) in [
            ("RUN x", "run is not a valid change command"),
            ("STOPSIGNAL nope", "invalid signal: nope"),
            ("bogus", "unknown instruction: bogus"),
            ("HEALTHCHECK --interval=x CMD true", "invalid duration"),
        ] {
            let message = apply(&mut config, &[change.into()]).unwrap_err().message;
            assert!(message.contains(words), "{change}: {message}");
        }
    }
}
