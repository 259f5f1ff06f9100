//! Query parameters of requests (`metav1.ListOptions`, `CreateOptions`, `PatchOptions`, …).

use std::borrow::Cow;

use api::status::{Cause, Status};

use crate::failure::Outcome;

/// The parameters in their order.
#[derive(Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes the part after `?` apart.
    pub fn parse(text: Option<&'a str>) -> Query<'a> {
        match text {
            None | Some("") => Query::default(),
            Some(text) => Query(form_urlencoded::parse(text.as_bytes()).collect()),
        }
    }

    /// The first value of that name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_ref())
    }

    /// The first value of that name; empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.first(name).unwrap_or("")
    }

    /// All values of that name.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_ref())
    }

    /// A boolean as upstream reads query parameters: everything but `false`, `0` and absence is true.
    pub fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|v| !matches!(v, "false" | "0"))
    }

    /// A boolean that may be left open.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        self.first(name).filter(|v| !v.is_empty()).map(|v| !matches!(v, "false" | "0"))
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Outcome<Option<i64>> {
        match self.first(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them with a `Warning` header.
    Warn,
    /// Refuse the request.
    Strict,
}

/// Parameters that all writes share.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// Do everything but store.
    pub dry_run: bool,
    /// Owner of the fields.
    pub field_manager: String,
    /// What to do about unknown fields.
    pub field_validation: FieldValidation,
    /// Server-side apply only.
    pub force: Option<bool>,
}

/// The name of the options of a change by `update` or `patch`.
pub(crate) fn options_kind(verb: &str) -> &'static str {
    if verb == "patch" { "PatchOptions" } else { "UpdateOptions" }
}

/// Bytes that the name of a field manager may have.
const LONGEST_MANAGER: usize = 128;

impl WriteOptions {
    /// Reads them; the manager defaults to the first part of the user agent, as upstream's does. `kind` is the
    /// options' own, such as `CreateOptions`, for messages.
    pub fn parse(query: &Query<'_>, user_agent: &str, kind: &str) -> Outcome<WriteOptions> {
        let mut faults = Vec::new();
        let field_manager: String = match query.text("fieldManager") {
            "" => user_agent.split('/').next().unwrap_or("").chars().take(LONGEST_MANAGER).collect(),
            manager => manager.to_owned(),
        };
        if field_manager.len() > LONGEST_MANAGER {
            faults.push(Cause::too_long("fieldManager", LONGEST_MANAGER));
        }
        for (at, c) in field_manager.char_indices().filter(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            faults.push(Cause::invalid("fieldManager", &field_manager, &why));
        }
        let dry_run: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        if dry_run.iter().any(|value| *value != "All") {
            faults.push(Cause::not_supported("dryRun", &dry_run, &["All"]));
        }
        let field_validation = match query.text("fieldValidation") {
            // The server's default is Warn.
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                faults.push(Cause::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        if !faults.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind, "", faults));
        }
        let dry_run = !dry_run.is_empty();
        Ok(WriteOptions { dry_run, field_manager, field_validation, force: query.optional_flag("force") })
    }
}

/// How `resourceVersion` is meant in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// As upstream without the parameter.
    Unset,
    /// At least as new.
    NotOlderThan,
    /// Exactly that one.
    Exact,
}

/// Parameters of list and watch.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// Label selector, unparsed.
    pub labels: String,
    /// Field selector, unparsed.
    pub fields: String,
    /// 0: no limit.
    pub limit: usize,
    /// Where an earlier list ended.
    pub continue_token: String,
    /// `None`: the newest.
    pub resource_version: Option<u64>,
    /// How that is meant.
    pub version_match: VersionMatch,
    /// Stream changes.
    pub watch: bool,
    /// Send `BOOKMARK` events.
    pub bookmarks: bool,
    /// Begin a watch with what is there.
    pub initial_events: Option<bool>,
    /// How long a watch lasts.
    pub timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads and cross-checks them (`metainternalversion/validation.ValidateListOptions`).
    pub fn parse(query: &Query<'_>) -> Outcome<ListOptions> {
        let resource_version = match query.text("resourceVersion") {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                Status::bad_request(format!(
                    "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?),
        };
        let version_match = match query.text("resourceVersionMatch") {
            "" => VersionMatch::Unset,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            "Exact" => VersionMatch::Exact,
            other => {
                let supported = ["Exact", "NotOlderThan", ""];
                return Err(options_invalid(Cause::not_supported("resourceVersionMatch", other, &supported)));
            }
        };
        let limit = query.number("limit")?.unwrap_or(0).max(0) as usize;
        let options = ListOptions {
            labels: query.text("labelSelector").to_owned(),
            fields: query.text("fieldSelector").to_owned(),
            limit,
            continue_token: query.text("continue").to_owned(),
            resource_version,
            version_match,
            watch: query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query.optional_flag("sendInitialEvents"),
            timeout_seconds: query.number("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Outcome<()> {
        let forbidden = |field: &str, why: &str| Err(options_invalid(Cause::forbidden(field, why)));
        if self.watch {
            if let Some(initial) = self.initial_events {
                if initial && self.version_match != VersionMatch::NotOlderThan {
                    return forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    );
                }
            } else if self.version_match != VersionMatch::Unset {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            return Ok(());
        }
        if self.initial_events.is_some() {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if self.version_match != VersionMatch::Unset {
            if self.resource_version.is_none() {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if !self.continue_token.is_empty() {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if self.version_match == VersionMatch::Exact && self.resource_version == Some(0) {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if !self.continue_token.is_empty() && self.resource_version.is_some_and(|v| v != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        Ok(())
    }
}

fn options_invalid(cause: Cause) -> Status {
    Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
}
