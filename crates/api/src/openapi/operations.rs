//! What can be done at which path, before it is rendered in one form or another.

use super::{
    GroupVersionKind,
    definitions::{DELETE_OPTIONS, PATCH, RESOURCE_LIST, STATUS, list_of, of_kind},
    root,
};
use crate::resource::{Resource, Subresource};

/// A path with its operations.
pub struct PathItem {
    pub path: String,
    /// Of all operations: name and namespace.
    pub parameters: Vec<&'static Parameter>,
    pub operations: Vec<Operation>,
}

/// One method at a path.
pub struct Operation {
    /// In lower case.
    pub method: &'static str,
    /// `x-kubernetes-action`, empty for discovery.
    pub action: &'static str,
    pub id: String,
    pub tag: String,
    pub description: String,
    pub parameters: Vec<&'static Parameter>,
    pub body: Option<Body>,
    pub responses: Vec<(&'static str, &'static str)>,
    /// The definition that a success carries; text if there is none.
    pub answer: Option<String>,
    pub kind: Option<GroupVersionKind>,
    pub streams: bool,
}

/// What a request carries.
pub struct Body {
    pub definition: String,
    pub required: bool,
    pub media_types: &'static [&'static str],
}

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

static NAME: Parameter = path("name", "name of the object");
static NAMESPACE: Parameter = path("namespace", "namespace of the object, as for authorization");
static PATH: Parameter = path("path", "path to the resource behind the proxy");
static PRETTY: Parameter = query("pretty", "string", "If 'true', the output is indented for people.");

static LIST: [Parameter; 10] = [
    query("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events."),
    query("continue", "string", "The token of the previous page of a list."),
    query("fieldSelector", "string", "Restricts the result to objects whose fields match."),
    query("labelSelector", "string", "Restricts the result to objects whose labels match."),
    query("limit", "integer", "The largest number of objects in one page."),
    query("resourceVersion", "string", "The version that the result must have or follow."),
    query("resourceVersionMatch", "string", "How resourceVersion is applied: NotOlderThan or Exact."),
    query("sendInitialEvents", "boolean", "Whether a watch begins with the present objects."),
    query("timeoutSeconds", "integer", "Ends the call after that many seconds."),
    query("watch", "boolean", "Sends changes as a stream of add, update and remove notifications."),
];
static WRITE: [Parameter; 3] = [
    query("dryRun", "string", "When present, nothing is stored. The only valid value is All."),
    query("fieldManager", "string", "Name of the actor that makes the change."),
    query(
        "fieldValidation",
        "string",
        "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
    ),
];
static FORCE: Parameter = query("force", "boolean", "Server-side apply takes fields that other managers own.");
static DELETE: [Parameter; 5] = [
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
static LOG: [Parameter; 10] = [
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
static STREAMS: [Parameter; 5] = [
    query("container", "string", "The container; optional if the pod has only one."),
    query("stderr", "boolean", "Whether to attach standard error."),
    query("stdin", "boolean", "Whether to attach standard input."),
    query("stdout", "boolean", "Whether to attach standard output."),
    query("tty", "boolean", "Whether to allocate a terminal."),
];
static COMMAND: Parameter = query("command", "string", "The command and its arguments.");
static PORTS: Parameter = query("ports", "integer", "The ports to forward.");
static PROXY: Parameter = query("path", "string", "The path of the URL to use for the request.");

/// Formats that bodies come in.
pub const FORMATS: &[&str] = &["application/json", "application/yaml"];
const PATCH_FORMATS: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

const OK: (&str, &str) = ("200", "OK");
const CREATED: (&str, &str) = ("201", "Created");
const ACCEPTED: (&str, &str) = ("202", "Accepted");

/// All paths of one group and version, sorted.
pub fn paths(resources: &[&Resource], group: &str, version: &str) -> Vec<PathItem> {
    let mut paths = vec![listing(group, version)];
    for resource in resources.iter().filter(|r| r.group == group && r.version == version) {
        let at = At::new(resources, resource);
        paths.extend(at.collections());
        paths.extend(at.item());
        paths.extend(resource.subresources.iter().flat_map(|sub| at.subresource(sub)));
    }
    paths.retain(|item| !item.operations.is_empty());
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    paths
}

/// The discovery document of the version.
fn listing(group: &str, version: &str) -> PathItem {
    let tag = tag(group, version);
    let operation = Operation {
        method: "get",
        action: "",
        id: format!("get{}APIResources", operation_group(group, version)),
        tag,
        description: "get available resources".into(),
        parameters: Vec::new(),
        body: None,
        responses: vec![OK],
        answer: Some(RESOURCE_LIST.into()),
        kind: None,
        streams: false,
    };
    PathItem { path: format!("{}/", root(group, version)), parameters: Vec::new(), operations: vec![operation] }
}

/// One entry's place in the tree of paths.
struct At<'a> {
    resources: &'a [&'a Resource],
    resource: &'a Resource,
    /// With `{namespace}` where the kind is namespaced.
    collection: String,
}

impl<'a> At<'a> {
    fn new(resources: &'a [&'a Resource], resource: &'a Resource) -> Self {
        let root = root(resource.group, resource.version);
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        Self { resources, resource, collection: format!("{root}{scope}/{}", resource.plural) }
    }

    /// The collection, and for namespaced kinds the collection over all namespaces.
    fn collections(&self) -> Vec<PathItem> {
        let Resource { kind, .. } = self.resource;
        let mut operations = Vec::new();
        if self.resource.allows("list") {
            operations.push(self.list(""));
        }
        if self.resource.allows("create") {
            let mut create = self.operation("post", "post", "create", "", &format!("create {} {kind}", article(kind)));
            create.parameters.extend(&WRITE);
            create.body = Some(self.own_body());
            create.responses = vec![OK, CREATED, ACCEPTED];
            operations.push(create);
        }
        if self.resource.allows("deletecollection") {
            let description = format!("delete collection of {kind}");
            let mut delete = self.operation("delete", "deletecollection", "deleteCollection", "", &description);
            delete.parameters.extend(&DELETE);
            delete.parameters.extend(LIST.iter().filter(|p| !matches!(p.name, "allowWatchBookmarks" | "watch")));
            delete.body = Some(Body { definition: DELETE_OPTIONS.into(), required: false, media_types: FORMATS });
            delete.answer = Some(STATUS.into());
            operations.push(delete);
        }
        let mut items = vec![PathItem { path: self.collection.clone(), parameters: self.scope(), operations }];
        if self.resource.namespaced && self.resource.allows("list") {
            let path = format!("{}/{}", root(self.resource.group, self.resource.version), self.resource.plural);
            let operations = vec![self.list("ForAllNamespaces")];
            items.push(PathItem { path, parameters: vec![&PRETTY], operations });
        }
        items
    }

    fn list(&self, suffix: &str) -> Operation {
        let watches = self.resource.allows("watch");
        let verb = if watches { "list or watch" } else { "list" };
        let description = format!("{verb} objects of kind {}", self.resource.kind);
        let mut list = self.operation("get", "list", "list", suffix, &description);
        list.parameters.extend(&LIST);
        list.answer = Some(list_of(self.resource));
        list.streams = watches;
        list
    }

    fn item(&self) -> Option<PathItem> {
        let Resource { kind, .. } = self.resource;
        let mut operations = Vec::new();
        if self.resource.allows("get") {
            operations.push(self.operation("get", "get", "read", "", &format!("read the specified {kind}")));
        }
        if self.resource.allows("update") {
            operations.push(self.replace("", &format!("replace the specified {kind}"), self.own_body()));
        }
        if self.resource.allows("patch") {
            operations.push(self.patch("", &format!("partially update the specified {kind}")));
        }
        if self.resource.allows("delete") {
            let description = format!("delete {} {kind}", article(kind));
            let mut delete = self.operation("delete", "delete", "delete", "", &description);
            delete.parameters.extend(&DELETE);
            delete.body = Some(Body { definition: DELETE_OPTIONS.into(), required: false, media_types: FORMATS });
            delete.answer = Some(STATUS.into());
            delete.responses = vec![OK, ACCEPTED];
            operations.push(delete);
        }
        (!operations.is_empty()).then(|| PathItem { path: self.item_path(), parameters: self.named(), operations })
    }

    fn subresource(&self, sub: &Subresource) -> Vec<PathItem> {
        let &Resource { group, version, .. } = self.resource;
        let path = format!("{}/{}", self.item_path(), sub.name);
        let (sub_group, sub_version) = sub.group_version.unwrap_or((group, version));
        let kind = GroupVersionKind::new(sub_group, sub_version, sub.kind);
        let definition = of_kind(self.resources, sub_group, sub_version, sub.kind);
        let Some(definition) = definition else { return self.connect(&path, sub, &kind) };
        let title = title(sub.name);
        let of = format!("{} of the specified {}", sub.name, self.resource.kind);
        let body = || Body { definition: definition.clone(), required: true, media_types: FORMATS };
        let mut operations = Vec::new();
        for verb in sub.verbs {
            let mut operation = match *verb {
                "get" => self.operation("get", "get", "read", &title, &format!("read {of}")),
                "update" => self.replace(&title, &format!("replace {of}"), body()),
                "patch" => self.patch(&title, &format!("partially update {of}")),
                _ => {
                    let kind = self.resource.kind;
                    let description = format!("create {} of {} {kind}", sub.name, article(kind));
                    let mut create = self.operation("post", "post", "create", &title, &description);
                    create.parameters.extend(&WRITE);
                    create.body = Some(body());
                    create.responses = vec![OK, CREATED, ACCEPTED];
                    create
                }
            };
            operation.answer = Some(definition.clone());
            operation.kind = Some(kind.clone());
            if sub.name == "log" {
                operation.parameters.extend(&LOG);
                operation.answer = None;
            }
            operations.push(operation);
        }
        vec![PathItem { path, parameters: self.named(), operations }]
    }

    /// A subresource that a connection goes through.
    fn connect(&self, path: &str, sub: &Subresource, kind: &GroupVersionKind) -> Vec<PathItem> {
        let title = title(sub.name);
        let operations = |suffix: &str| -> Vec<Operation> {
            sub.verbs
                .iter()
                .map(|verb| {
                    let (method, name) = match *verb {
                        "create" => ("post", "Post"),
                        "update" => ("put", "Put"),
                        "patch" => ("patch", "Patch"),
                        "delete" => ("delete", "Delete"),
                        _ => ("get", "Get"),
                    };
                    let description = format!(
                        "connect {} requests to {} of {}",
                        method.to_ascii_uppercase(),
                        sub.name,
                        self.resource.kind
                    );
                    let mut operation =
                        self.operation(method, "connect", "connect", &format!("{title}{suffix}"), &description);
                    operation.id = operation.id.replacen(
                        &operation_group(self.resource.group, self.resource.version),
                        &format!("{}{name}", operation_group(self.resource.group, self.resource.version)),
                        1,
                    );
                    operation.answer = None;
                    operation.kind = Some(kind.clone());
                    match sub.name {
                        "exec" => operation.parameters.extend(STREAMS.iter().chain([&COMMAND])),
                        "attach" => operation.parameters.extend(&STREAMS),
                        "portforward" => operation.parameters.push(&PORTS),
                        _ => operation.parameters.push(&PROXY),
                    }
                    operation
                })
                .collect()
        };
        let mut items =
            vec![PathItem { path: path.into(), parameters: self.named(), operations: operations("") }];
        if sub.name == "proxy" {
            let mut parameters = self.named();
            parameters.push(&PATH);
            items.push(PathItem { path: format!("{path}/{{path}}"), parameters, operations: operations("WithPath") });
        }
        items
    }

    fn replace(&self, suffix: &str, description: &str, body: Body) -> Operation {
        let mut replace = self.operation("put", "put", "replace", suffix, description);
        replace.parameters.extend(&WRITE);
        replace.body = Some(body);
        replace.responses = vec![OK, CREATED];
        replace
    }

    fn patch(&self, suffix: &str, description: &str) -> Operation {
        let mut patch = self.operation("patch", "patch", "patch", suffix, description);
        patch.parameters.extend(WRITE.iter().chain([&FORCE]));
        patch.body = Some(Body { definition: PATCH.into(), required: true, media_types: PATCH_FORMATS });
        patch.responses = vec![OK, CREATED];
        patch
    }

    /// An operation on the kind itself, which answers with it.
    fn operation(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &str,
        suffix: &str,
        description: &str,
    ) -> Operation {
        let &Resource { group, version, kind, namespaced, schema, .. } = self.resource;
        let scope = if namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        // Upstream's list of collections counts `deletecollection` as one word with the verb in front.
        let (verb, infix) = match verb {
            "deleteCollection" => ("delete", "Collection"),
            verb => (verb, ""),
        };
        Operation {
            method,
            action,
            id: format!("{verb}{}{infix}{scope}{kind}{suffix}", operation_group(group, version)),
            tag: tag(group, version),
            description: description.into(),
            parameters: Vec::new(),
            body: None,
            responses: vec![OK],
            answer: Some(schema.name.into()),
            kind: Some(GroupVersionKind::new(group, version, kind)),
            streams: false,
        }
    }

    fn own_body(&self) -> Body {
        Body { definition: self.resource.schema.name.into(), required: true, media_types: FORMATS }
    }

    fn item_path(&self) -> String {
        format!("{}/{{name}}", self.collection)
    }

    fn scope(&self) -> Vec<&'static Parameter> {
        if self.resource.namespaced { vec![&NAMESPACE, &PRETTY] } else { vec![&PRETTY] }
    }

    fn named(&self) -> Vec<&'static Parameter> {
        let mut parameters = vec![&NAME];
        parameters.extend(self.scope());
        parameters
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}

/// `ephemeralcontainers` is `Ephemeralcontainers`.
fn title(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// The group without `.k8s.io`, as an identifier: `rbacAuthorization`, `core`.
fn identifier(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    let mut words = group.split(['.', '-']);
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |name, word| name + &title(word))
}

fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", identifier(group))
}

/// `CoreV1`, `RbacAuthorizationV1`.
fn operation_group(group: &str, version: &str) -> String {
    title(&identifier(group)) + &title(version)
}
