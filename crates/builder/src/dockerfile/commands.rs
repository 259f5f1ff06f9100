//! What each instruction says.

use super::flags::{Flags, distance};
use super::lines::{Heredoc, Line, heredoc};
use super::mounts::Mount;
use super::words;

/// One instruction, parsed; texts in which variables count are not yet expanded.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begins a stage.
    From {
        /// Image or earlier stage.
        image: String,
        /// `AS`, in lower case.
        name: Option<String>,
        /// `--platform`.
        platform: Option<String>,
    },
    /// Runs a program.
    Run {
        /// The command.
        form: Form,
        /// Here-documents of the command.
        heredocs: Vec<Heredoc>,
        /// `--mount`.
        mounts: Vec<Mount>,
        /// `--network`: `default`, `none` or `host`.
        network: Option<String>,
    },
    /// The default command.
    Cmd(Form),
    /// What is always run.
    Entrypoint(Form),
    /// The shell of shell forms.
    Shell(Vec<String>),
    /// Environment.
    Env(Vec<(String, String)>),
    /// Metadata.
    Label(Vec<(String, String)>),
    /// Build arguments with their defaults.
    Arg(Vec<Variable>),
    /// Files from the context, a stage or an image.
    Copy(Copying),
    /// Files from the context, archives unpacked, and URLs.
    Add(Copying),
    /// Ports.
    Expose(Vec<String>),
    /// Paths that are volumes.
    Volume(Vec<String>),
    /// Who runs what follows, and the container.
    User(String),
    /// Where it runs.
    Workdir(String),
    /// An instruction for images built on this one.
    Onbuild(String),
    /// The signal that asks the container to end.
    Stopsignal(String),
    /// Health check.
    Healthcheck(Health),
    /// The author (deprecated).
    Maintainer(String),
}

/// Shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// One text for the shell, rather than a program and its arguments.
    pub shell: bool,
    /// The text, or program and arguments.
    pub args: Vec<String>,
}

/// One build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its default.
    pub default: Option<String>,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copying {
    /// Where from, in order.
    pub sources: Vec<String>,
    /// Files whose contents stand in the Dockerfile.
    pub inline: Vec<Inline>,
    /// Where to.
    pub destination: String,
    /// Stage or image; the context when `None`.
    pub from: Option<String>,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// Octal, or symbolic as chmod(1) has it.
    pub chmod: Option<String>,
    /// The layer does not depend on what lies below it.
    pub link: bool,
    /// Keep the directories of the sources.
    pub parents: bool,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// `sha256:…` of a URL's content, or a repository's commit (`ADD`).
    pub checksum: Option<String>,
    /// A repository's history is wanted, too (`ADD`).
    pub keep_git: bool,
    /// Unpack archives: by default those of the context, not those of URLs (`ADD`).
    pub unpack: Option<bool>,
}

/// A file from a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub data: String,
    /// Variables in it are expanded.
    pub expand: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` for `HEALTHCHECK NONE`.
    pub checks: Option<Checks>,
}

/// What is checked and when; durations in nanoseconds, 0 for the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// The command.
    pub form: Form,
    /// Between two checks.
    pub interval: i64,
    /// For one.
    pub timeout: i64,
    /// In which failures don't count.
    pub start_period: i64,
    /// Between two checks in that time.
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

pub(super) fn parse(line: &Line, escape: char) -> Result<Command, String> {
    let (name, rest) = words::instruction(&line.text);
    let name = name.to_ascii_uppercase();
    if !NAMES.contains(&name.as_str()) {
        let near = NAMES
            .iter()
            .map(|known| (distance(known, &name), known))
            .filter(|(edits, known)| *edits <= 2 && edits * 2 < known.len())
            .min_by_key(|(edits, _)| *edits)
            .map(|(_, known)| known);
        let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        return Err(format!("unknown instruction: {}{hint}", words::instruction(&line.text).0));
    }
    if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT" | "RUN") {
        return Err(match name.as_str() {
            "FROM" => "FROM requires either one or three arguments".into(),
            "MAINTAINER" | "USER" | "WORKDIR" | "STOPSIGNAL" => format!("{name} requires exactly one argument"),
            _ => format!("{name} requires at least one argument"),
        });
    }
    // ONBUILD hands its flags on to the instruction it holds.
    let (flags, arguments) = match name.as_str() {
        "ONBUILD" => (Flags::default(), rest),
        _ => Flags::take(rest, escape),
    };
    let plain = |flags: &Flags| flags.check(&[], &[]);
    match name.as_str() {
        "FROM" => from(&flags, arguments),
        "RUN" => run(&flags, arguments, line, escape),
        "COPY" | "ADD" => copying(&name, &flags, arguments, line, escape),
        "HEALTHCHECK" => health(&flags, arguments),
        "CMD" => plain(&flags).and_then(|()| Ok(Command::Cmd(form(arguments)?))),
        "ENTRYPOINT" => plain(&flags).and_then(|()| Ok(Command::Entrypoint(form(arguments)?))),
        "SHELL" => {
            plain(&flags)?;
            match words::json(arguments)? {
                Some(shell) if shell.is_empty() => Err("SHELL requires at least one argument".into()),
                Some(shell) => Ok(Command::Shell(shell)),
                None => Err(format!("SHELL requires the arguments to be in JSON form: {}", line.text.trim())),
            }
        }
        "ENV" => plain(&flags).and_then(|()| Ok(Command::Env(words::pairs(arguments, escape, "ENV")?))),
        "LABEL" => plain(&flags).and_then(|()| Ok(Command::Label(words::pairs(arguments, escape, "LABEL")?))),
        "ARG" => plain(&flags).and_then(|()| variables(arguments, escape)),
        "EXPOSE" => plain(&flags).map(|()| Command::Expose(words::raw(arguments, escape))),
        "VOLUME" => {
            plain(&flags)?;
            let paths = words::json(arguments)?.unwrap_or_else(|| words::raw(arguments, escape));
            if paths.is_empty() {
                return Err("VOLUME requires at least one argument".into());
            }
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err("VOLUME specified can not be an empty string".into());
            }
            Ok(Command::Volume(paths))
        }
        "USER" => plain(&flags).map(|()| Command::User(arguments.to_owned())),
        "WORKDIR" => plain(&flags).map(|()| Command::Workdir(arguments.to_owned())),
        "STOPSIGNAL" => plain(&flags).map(|()| Command::Stopsignal(arguments.to_owned())),
        "MAINTAINER" => plain(&flags).map(|()| Command::Maintainer(arguments.to_owned())),
        _ => onbuild(line, arguments, escape),
    }
}

fn from(flags: &Flags, arguments: &str) -> Result<Command, String> {
    flags.check(&["platform"], &[])?;
    let platform = flags.value("platform")?;
    let parts: Vec<&str> = arguments.split_whitespace().collect();
    let (image, name) = match parts.as_slice() {
        [image] => (*image, None),
        [image, word, name] if word.eq_ignore_ascii_case("AS") => {
            let name = name.to_ascii_lowercase();
            let fine = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !fine {
                return Err(format!(
                    "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
                ));
            }
            (*image, Some(name))
        }
        _ => return Err("FROM requires either one or three arguments".into()),
    };
    Ok(Command::From { image: image.to_owned(), name, platform })
}

fn form(arguments: &str) -> Result<Form, String> {
    Ok(match words::json(arguments)? {
        Some(args) => Form { shell: false, args },
        None if arguments.is_empty() => Form { shell: false, args: Vec::new() },
        None => Form { shell: true, args: vec![arguments.to_owned()] },
    })
}

fn run(flags: &Flags, arguments: &str, line: &Line, _escape: char) -> Result<Command, String> {
    flags.check(&["network", "security"], &["mount", "device"])?;
    let network = flags.value("network")?;
    if let Some(other) = network.as_deref().filter(|n| !matches!(*n, "default" | "none" | "host")) {
        return Err(format!("network mode {other:?} is not supported by this builder"));
    }
    match flags.value("security")?.as_deref() {
        None | Some("sandbox") => {}
        Some(other) => return Err(format!("security mode {other:?} is not supported by this builder")),
    }
    if !flags.values("device")?.is_empty() {
        return Err("--device is not supported by this builder".into());
    }
    let mounts = flags.values("mount")?.iter().map(|text| Mount::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let form = form(arguments)?;
    if form.args.iter().all(String::is_empty) && line.heredocs.is_empty() {
        return Err("RUN requires at least one argument".into());
    }
    Ok(Command::Run { form, heredocs: line.heredocs.clone(), mounts, network })
}

fn copying(name: &str, flags: &Flags, arguments: &str, line: &Line, escape: char) -> Result<Command, String> {
    let add = name == "ADD";
    match add {
        true => flags.check(&["chown", "chmod", "link", "checksum", "keep-git-dir", "unpack"], &["exclude"])?,
        false => flags.check(&["from", "chown", "chmod", "link", "parents"], &["exclude"])?,
    }
    let mut all = match words::json(arguments)? {
        Some(all) => all,
        None => words::raw(arguments, escape),
    };
    let destination = match all.len() {
        0 => {
            return Err(format!(
                "{name} requires at least two arguments, but none were provided. Destination could not be determined"
            ));
        }
        1 => {
            return Err(format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            ));
        }
        _ => all.pop().expect("there are two or more"),
    };
    if heredoc(&destination, escape)?.is_some() {
        return Err(format!("{name} cannot accept a heredoc as a destination"));
    }
    let mut copying = Copying {
        destination,
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.on("link")?,
        exclude: flags.values("exclude")?,
        ..Copying::default()
    };
    if add {
        copying.checksum = flags.value("checksum")?;
        copying.keep_git = flags.on("keep-git-dir")?;
        copying.unpack = flags.has("unpack").then(|| flags.on("unpack")).transpose()?;
    } else {
        copying.from = flags.value("from")?;
        copying.parents = flags.on("parents")?;
    }
    let mut bodies = line.heredocs.iter();
    for source in all {
        match (line.heredocs.is_empty(), heredoc(&source, escape)?) {
            (false, Some(_)) => {
                let body = bodies.next().ok_or("a heredoc without its text")?;
                copying.inline.push(Inline { name: body.name.clone(), data: body.data(), expand: body.expand });
            }
            _ => copying.sources.push(source),
        }
    }
    Ok(if add { Command::Add(copying) } else { Command::Copy(copying) })
}

fn variables(arguments: &str, escape: char) -> Result<Command, String> {
    let mut all = Vec::new();
    for word in words::raw(arguments, escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if name.is_empty() {
            return Err("ARG names can not be blank".into());
        }
        all.push(Variable { name, default });
    }
    Ok(Command::Arg(all))
}

fn health(flags: &Flags, arguments: &str) -> Result<Command, String> {
    let (kind, rest) = words::instruction(arguments);
    let kind = kind.to_ascii_uppercase();
    if kind == "NONE" {
        if !rest.is_empty() {
            return Err("HEALTHCHECK NONE takes no arguments".into());
        }
        flags.check(&[], &[])?;
        return Ok(Command::Healthcheck(Health::default()));
    }
    flags.check(&["interval", "timeout", "start-period", "start-interval", "retries"], &[])?;
    if kind != "CMD" {
        return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"));
    }
    let form = form(rest)?;
    if form.args.is_empty() {
        return Err("Missing command after HEALTHCHECK CMD".into());
    }
    let duration = |name: &str| -> Result<i64, String> {
        let Some(text) = flags.value(name)? else { return Ok(0) };
        let nanoseconds = go_duration::read(&text).map_err(|fault| fault.to_string())?;
        match nanoseconds {
            0 => Ok(0),
            short if short < 1_000_000 => Err(format!("Interval {name:?} cannot be less than 1ms")),
            fine => Ok(fine),
        }
    };
    let retries = match flags.value("retries")? {
        None => 0,
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| format!("invalid --retries value {text:?}"))?;
            if number < 0 {
                return Err(format!("--retries cannot be negative ({number})"));
            }
            number
        }
    };
    Ok(Command::Healthcheck(Health {
        checks: Some(Checks {
            form,
            interval: duration("interval")?,
            timeout: duration("timeout")?,
            start_period: duration("start-period")?,
            start_interval: duration("start-interval")?,
            retries,
        }),
    }))
}

fn onbuild(line: &Line, arguments: &str, escape: char) -> Result<Command, String> {
    let (trigger, _) = words::instruction(arguments);
    match trigger.to_ascii_uppercase().as_str() {
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        trigger @ ("MAINTAINER" | "FROM") => return Err(format!("{trigger} isn't allowed as an ONBUILD trigger")),
        _ => {}
    }
    let inner = Line { text: arguments.to_owned(), ..line.clone() };
    parse(&inner, escape)?;
    let mut text = arguments.to_owned();
    for body in &line.heredocs {
        text.push('\n');
        text.push_str(&body.content);
        text.push_str(&body.name);
    }
    if !line.heredocs.is_empty() {
        text.push('\n');
    }
    Ok(Command::Onbuild(text))
}
