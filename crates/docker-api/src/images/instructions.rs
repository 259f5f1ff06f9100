//! `--change` of `commit` and `import`: Dockerfile instructions that only touch the configuration.

use builder::dockerfile::Expander;
use serde_json::{Value, json};

use crate::error::{ApiError, Result};

/// Applies instructions to Docker's `Config`.
pub(crate) fn apply(config: &mut Value, changes: &[String]) -> Result<()> {
    let mut commanded = false;
    for change in changes.iter().map(|change| change.trim()).filter(|change| !change.is_empty()) {
        let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        let rest = rest.trim();
        let instruction = instruction.to_ascii_uppercase();
        if rest.is_empty() {
            return Err(ApiError::bad(format!("{instruction} requires at least one argument")));
        }
        match instruction.as_str() {
            "CMD" => {
                config["Cmd"] = command(rest);
                commanded = true;
            }
            "ENTRYPOINT" => {
                config["Entrypoint"] = command(rest);
                // The arguments that were there are another program's, but for those just given.
                if !commanded {
                    config["Cmd"] = Value::Null;
                }
            }
            "USER" => config["User"] = expanded(config, rest)?.into(),
            "WORKDIR" => config["WorkingDir"] = expanded(config, rest)?.into(),
            "STOPSIGNAL" => config["StopSignal"] = expanded(config, rest)?.into(),
            "ENV" => {
                let mut env: Vec<String> = serde_json::from_value(config["Env"].clone()).unwrap_or_default();
                // All of an instruction's values see the variables from before it.
                let values = pairs(rest).into_iter().map(|(name, value)| Ok((name, expanded(config, &value)?)));
                for (name, value) in values.collect::<Result<Vec<_>>>()? {
                    let variable = format!("{name}={value}");
                    match env.iter_mut().find(|entry| entry.split('=').next() == Some(name.as_str())) {
                        Some(present) => *present = variable,
                        None => env.push(variable),
                    }
                }
                config["Env"] = json!(env);
            }
            "LABEL" => {
                for (name, value) in pairs(rest) {
                    let value = expanded(config, &value)?;
                    object(config, "Labels").insert(name, value.into());
                }
            }
            "EXPOSE" => {
                for port in expanded(config, rest)?.split_whitespace() {
                    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                    object(config, "ExposedPorts").insert(port, json!({}));
                }
            }
            "VOLUME" => {
                let paths: Vec<String> = serde_json::from_str(rest).unwrap_or_else(|_| words(rest));
                for path in paths {
                    object(config, "Volumes").insert(path, json!({}));
                }
            }
            "ONBUILD" => {
                let mut list: Vec<String> = serde_json::from_value(config["OnBuild"].clone()).unwrap_or_default();
                list.push(rest.to_owned());
                config["OnBuild"] = json!(list);
            }
            "HEALTHCHECK" => {
                config["Healthcheck"] = match rest.strip_prefix("CMD ") {
                    Some(check) => match command(check.trim()) {
                        Value::Array(list) if list.first().is_some_and(|word| word == "/bin/sh") => {
                            json!({"Test": ["CMD-SHELL", list[2]]})
                        }
                        list => {
                            json!({"Test": std::iter::once(json!("CMD")).chain(list.as_array().cloned().unwrap_or_default()).collect::<Vec<_>>()})
                        }
                    },
                    None if rest.eq_ignore_ascii_case("none") => json!({"Test": ["NONE"]}),
                    None => return Err(ApiError::bad(format!("Unknown type {rest:?} in HEALTHCHECK (try CMD)"))),
                }
            }
            other => {
                return Err(ApiError::bad(format!("{} is not a valid change command", other.to_ascii_lowercase())));
            }
        }
    }
    Ok(())
}

/// A text with the configuration's variables in their places.
fn expanded(config: &Value, text: &str) -> Result<String> {
    let variables = config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let variables: Vec<(&str, &str)> = variables.filter_map(|entry| entry.split_once('=')).collect();
    let lookup = |name: &str| {
        let found = variables.iter().rev().find(|(own, _)| *own == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let expander = Expander::new('\\', &lookup).without_quotes();
    expander.word(text).map_err(|error| ApiError::bad(error.to_string()))
}

fn object<'a>(config: &'a mut Value, key: &str) -> &'a mut serde_json::Map<String, Value> {
    if !config[key].is_object() {
        config[key] = json!({});
    }
    config[key].as_object_mut().expect("made an object just now")
}

/// The exec form is JSON; anything else is for a shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => json!(list),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// `a=b c="d e"`, or the old `a b c`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let words = words(text);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return vec![(name.to_owned(), value.trim().to_owned())];
    }
    words
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Words as a shell would split them, without anything else that it does.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                begun = true;
            }
            (None | Some('"'), '\\') => word.extend(chars.next()),
            (None, c) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
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
            "HEALTHCHECK CMD true",
        ];
        apply(&mut config, &changes.map(String::from)).unwrap();
        assert_eq!(
            config,
            json!({
                "Env": ["A=2", "B=c d"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"k": "v"},
                "WorkingDir": "/w", "Volumes": {"/data": {}}, "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
            })
        );
        assert!(
            apply(&mut config, &["RUN x".into()]).unwrap_err().message.contains("run is not a valid change command")
        );
    }
}
