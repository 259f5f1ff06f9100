//! The parameters of operations.

/// A parameter in the path or the query.
pub struct Parameter {
    pub name: &'static str,
    pub r#type: &'static str,
    pub description: &'static str,
    pub in_path: bool,
}

const fn query(name: &'static str, r#type: &'static str, description: &'static str) -> Parameter {
    Parameter { name, r#type, description, in_path: false }
}

const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, r#type: "string", description, in_path: true }
}

pub static NAME: Parameter = path("name", "name of the object");
pub static NAMESPACE: Parameter = path("namespace", "namespace of the object, as for authorization");
pub static PATH: Parameter = path("path", "path to the resource behind the proxy");
pub static PRETTY: Parameter = query("pretty", "string", "If 'true', the output is indented for people.");

pub static LIST: [Parameter; 10] = [
    query("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events."),
    query("continue", "string", "The token of the previous page of a list."),
    query("fieldSelector", "string", "Restricts the list of returned objects to those whose fields match."),
    query("labelSelector", "string", "Restricts the list of returned objects to those whose labels match."),
    query("limit", "integer", "The largest number of objects in one page."),
    query("resourceVersion", "string", "The version that the result must have or follow."),
    query("resourceVersionMatch", "string", "How resourceVersion is applied: NotOlderThan or Exact."),
    query("sendInitialEvents", "boolean", "Whether a watch begins with the present objects."),
    query("timeoutSeconds", "integer", "Ends the call after that many seconds."),
    query(
        "watch",
        "boolean",
        "Watch for changes to the described resources, told as a stream of add, update and remove notifications.",
    ),
];
pub static WRITE: [Parameter; 3] = [
    query("dryRun", "string", "When present, nothing is stored. The only valid value is All."),
    query("fieldManager", "string", "Name of the actor that makes the change."),
    query(
        "fieldValidation",
        "string",
        "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
    ),
];
pub static FORCE: Parameter = query("force", "boolean", "Server-side apply takes fields that other managers own.");
pub static DELETE: [Parameter; 5] = [
    query("dryRun", "string", "When present, nothing is stored. The only valid value is All."),
    query("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 means at once."),
    query(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that can't be read from the store.",
    ),
    query("orphanDependents", "boolean", "Deprecated: use propagationPolicy. Whether dependents stay."),
    query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];
pub static LOG: [Parameter; 10] = [
    query("container", "string", "The container to read; optional if the pod has only one."),
    query("follow", "boolean", "Follows the log."),
    query("insecureSkipTLSVerifyBackend", "boolean", "Does not verify the serving certificate of the node."),
    query("limitBytes", "integer", "The largest number of bytes to read."),
    query("previous", "boolean", "Reads the log of the previous, ended container."),
    query("sinceSeconds", "integer", "Reads only what is younger than that many seconds."),
    query("stream", "string", "All (the default), Stdout or Stderr."),
    query("tailLines", "integer", "The number of lines from the end to show."),
    query("timestamps", "boolean", "Puts an RFC 3339 time before every line."),
    query("sinceTime", "string", "Reads only what is younger than that RFC 3339 time."),
];
pub static STREAMS: [Parameter; 5] = [
    query("container", "string", "The container; optional if the pod has only one."),
    query("stderr", "boolean", "Whether to attach standard error."),
    query("stdin", "boolean", "Whether to attach standard input."),
    query("stdout", "boolean", "Whether to attach standard output."),
    query("tty", "boolean", "Whether to allocate a terminal."),
];
pub static COMMAND: Parameter = query("command", "string", "The command and its arguments.");
pub static PORTS: Parameter = query("ports", "integer", "The ports to forward.");
pub static PROXY: Parameter = query("path", "string", "The path of the URL to use for the request.");
