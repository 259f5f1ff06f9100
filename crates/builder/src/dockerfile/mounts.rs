//! `RUN --mount=type=…`.

/// One mount of a `RUN`; texts not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where; empty where the kind has a place of its own (secrets).
    pub target: String,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image. What is written there is thrown away.
    Bind {
        /// Stage or image; the context when `None`.
        from: Option<String>,
        /// Path in it.
        source: String,
        /// Writable while the command runs.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Names it; the target when `None`.
        id: Option<String>,
        /// Where its first content comes from.
        from: Option<String>,
        /// Path in `from`.
        source: String,
        /// Not writable.
        read_only: bool,
        /// What happens when two builds want it.
        sharing: CacheSharing,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
    },
    /// A file (or variable) that no layer and no history ever holds.
    Secret {
        /// Its name in the request.
        id: String,
        /// The variable that holds it, beside or instead of the file.
        env: Option<String>,
        /// Fail without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The socket of an SSH agent of the user's.
    Ssh {
        /// The agent's name in the request.
        id: String,
        /// Fail without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None` for no limit of its own.
        size: Option<u64>,
    },
}

/// How a cache mount is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All at once.
    #[default]
    Shared,
    /// A second user gets a new one.
    Private,
    /// A second user waits.
    Locked,
}

impl Mount {
    /// Parses the value of `--mount`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Fields::split(text)?;
        let kind = fields.take(&["type"]).unwrap_or_else(|| "bind".to_owned());
        let target = fields.take(&["target", "dst", "destination"]).unwrap_or_default();
        let from = fields.take(&["from"]);
        let source = fields.take(&["source", "src"]);
        let id = fields.take(&["id"]);
        let read_only = match (fields.boolean(&["readonly", "ro"])?, fields.boolean(&["rw", "readwrite"])?) {
            (Some(read_only), _) => Some(read_only),
            (None, Some(writable)) => Some(!writable),
            (None, None) => None,
        };
        let (uid, gid) = (fields.number("uid", 10)?, fields.number("gid", 10)?);
        let mode = fields.number("mode", 8)?;
        let owner = (uid.unwrap_or(0), gid.unwrap_or(0));
        let kind = match kind.as_str() {
            "bind" => MountKind::Bind {
                from,
                source: source.unwrap_or_else(|| "/".into()),
                writable: read_only == Some(false),
            },
            "cache" => {
                let sharing = match fields.take(&["sharing"]).as_deref() {
                    None | Some("shared") => CacheSharing::Shared,
                    Some("private") => CacheSharing::Private,
                    Some("locked") => CacheSharing::Locked,
                    Some(other) => return Err(format!("unsupported sharing value {other:?}")),
                };
                MountKind::Cache {
                    id,
                    from,
                    source: source.unwrap_or_else(|| "/".into()),
                    read_only: read_only == Some(true),
                    sharing,
                    mode: mode.unwrap_or(0o755),
                    uid: owner.0,
                    gid: owner.1,
                }
            }
            "tmpfs" => MountKind::Tmpfs { size: fields.take(&["size"]).map(|size| bytes(&size)).transpose()? },
            "secret" => {
                let named = id.or(source).or_else(|| target.rsplit('/').next().map(str::to_owned));
                MountKind::Secret {
                    id: named.filter(|id| !id.is_empty()).ok_or("one of source, target required")?,
                    env: fields.take(&["env"]),
                    required: fields.boolean(&["required"])?.unwrap_or(false),
                    mode: mode.unwrap_or(0o400),
                    uid: owner.0,
                    gid: owner.1,
                }
            }
            "ssh" if source.is_some() => return Err("ssh does not support source".into()),
            "ssh" => MountKind::Ssh {
                id: id.filter(|id| !id.is_empty()).unwrap_or_else(|| "default".into()),
                required: fields.boolean(&["required"])?.unwrap_or(false),
                mode: mode.unwrap_or(0o600),
                uid: owner.0,
                gid: owner.1,
            },
            other => return Err(format!("unsupported mount type {other:?}")),
        };
        if let Some((key, _)) = fields.0.first() {
            return Err(format!("unexpected key '{key}' in '{text}'"));
        }
        if target.is_empty() && !matches!(kind, MountKind::Secret { .. } | MountKind::Ssh { .. }) {
            return Err("invalid mount: target can not be empty".into());
        }
        Ok(Self { kind, target })
    }
}

struct Fields(Vec<(String, Option<String>)>);

impl Fields {
    fn split(text: &str) -> Result<Self, String> {
        let field = |part: &str| match part.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.trim_matches('"').to_owned())),
            None => (part.trim().to_ascii_lowercase(), None),
        };
        let mut fields = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = field(part);
            let switch = ["readonly", "ro", "rw", "readwrite", "required"].contains(&key.as_str());
            if value.is_none() && !switch {
                return Err(format!("invalid field '{part}' must be a key=value pair"));
            }
            fields.push((key, value));
        }
        Ok(Self(fields))
    }

    fn take(&mut self, names: &[&str]) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| names.contains(&key.as_str()))?;
        self.0.remove(at).1
    }

    fn boolean(&mut self, names: &[&str]) -> Result<Option<bool>, String> {
        let Some(at) = self.0.iter().position(|(key, _)| names.contains(&key.as_str())) else { return Ok(None) };
        match self.0.remove(at) {
            (_, None) => Ok(Some(true)),
            (key, Some(value)) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(format!("invalid value for {key}: {value}")),
            },
        }
    }

    fn number(&mut self, name: &str, radix: u32) -> Result<Option<u32>, String> {
        let parse =
            |value: String| u32::from_str_radix(&value, radix).map_err(|_| format!("invalid value {value} for {name}"));
        self.take(&[name]).map(parse).transpose()
    }
}

/// `64m` and the like, in powers of 1,024.
fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err(format!("invalid size: '{text}'")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("invalid size: '{text}'"))?;
    number.checked_mul(1 << unit).ok_or_else(|| format!("invalid size: '{text}'"))
}
