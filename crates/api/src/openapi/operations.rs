//! What can be done at which path, before it is rendered in one form or another.

use super::{
    GroupVersionKind,
    definitions::{DELETE_OPTIONS, PATCH, RESOURCE_LIST, STATUS, list_of, of_kind},
    parameters::{
        COMMAND, DELETE, FORCE, LIST, LOG, NAME, NAMESPACE, PATH, PORTS, PRETTY, PROXY, Parameter, STREAMS, WRITE,
    },
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
        let mut items = vec![PathItem { path: path.into(), parameters: self.named(), operations: operations("") }];
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
