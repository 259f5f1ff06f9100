//! A build that failed, in BuildKit's words.

use builder::{BuildError, Kind};
use grpc::Status;

use crate::wire::{Place, failure};

/// Why, and where.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    status: Status,
    place: Option<Place>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.status.message)
    }
}

impl Failed {
    /// In these words.
    pub fn words(message: impl Into<String>) -> Self {
        Self { status: Status::new(Status::UNKNOWN, message), place: None }
    }

    /// This status.
    pub fn status(status: Status) -> Self {
        Self { status, place: None }
    }

    /// The builder's; `file` and `text` are the Dockerfile's.
    pub fn of(error: &BuildError, file: &str, text: &str) -> Self {
        let place = error.lines.map(|lines| Place { file: file.to_owned(), text: text.to_owned(), lines });
        Self { status: Status::new(Status::UNKNOWN, words(&error.kind)), place }
    }

    /// As it is answered.
    pub fn into_status(self) -> Status {
        failure(self.status.code, self.status.message, self.place.as_ref())
    }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::Exit { command, code } => {
            format!("process {command:?} did not complete successfully: exit code: {code}")
        }
        Kind::Missing { path, .. } => {
            let path = builder::pattern::clean(path);
            format!("failed to compute cache key: failed to calculate checksum of ref: \"/{path}\": not found")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use grpc::Fields;

    use super::*;

    #[test]
    fn failures_read_as_buildkits_and_have_their_place() {
        let exit = Kind::Exit { command: "/bin/sh -c echo \"x\"; false".into(), code: 7 };
        let error = BuildError { kind: exit, lines: Some((2, 3)), excerpt: None };
        let status = Failed::of(&error, "Dockerfile", "FROM a\nRUN x\\\ny").into_status();
        let wanted = r#"process "/bin/sh -c echo \"x\"; false" did not complete successfully: exit code: 7"#;
        assert_eq!(status.message, wanted);
        let fields = Fields::read(&status.details);
        let detail = fields.message(3).unwrap();
        assert_eq!(detail.text(1), "github.com/moby/buildkit/errdefs.Source+json");
        let value: serde_json::Value = serde_json::from_slice(detail.data(2)).unwrap();
        assert_eq!((&value["info"]["filename"], &value["ranges"][0]["end"]["line"]), (&"Dockerfile".into(), &3.into()));
        let missing = Kind::Missing { instruction: "COPY", path: "./x".into(), image: false };
        assert!(words(&missing).ends_with("\"/x\": not found"));
        assert_eq!(Failed::words("no").into_status(), Status::new(2, "no"));
    }
}
