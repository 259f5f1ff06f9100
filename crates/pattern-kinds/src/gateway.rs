//! `gateway.networking.k8s.io/v1`: the core kinds of the Gateway API, with the fields of its standard channel.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};

use crate::{kind, types};

/// The group of these kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

kind!(GatewayClass, "gateway.networking.k8s.io", "v1", "gatewayclasses", ClusterResourceScope);
kind!(Gateway, "gateway.networking.k8s.io", "v1", "gateways", NamespaceResourceScope);
kind!(HTTPRoute, "gateway.networking.k8s.io", "v1", "httproutes", NamespaceResourceScope);
kind!(ReferenceGrant, "gateway.networking.k8s.io", "v1beta1", "referencegrants", NamespaceResourceScope);

types! {
    /// GatewayClass describes a class of Gateways available to the user for creating Gateway resources.
    pub struct GatewayClass {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// The class.
        pub spec: GatewayClassSpec,
        /// Whether its controller has taken it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<GatewayClassStatus>,
    }

    /// GatewayClassSpec reflects the configuration of a class of Gateways.
    pub struct GatewayClassSpec {
        /// The controller that manages Gateways of this class, a domain-prefixed path. It can't change.
        pub controller_name: String,
        /// Parameters of the controller.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parameters_ref: Option<ParametersReference>,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
    }

    /// ParametersReference names an object with parameters.
    pub struct ParametersReference {
        /// Its group.
        pub group: String,
        /// Its kind.
        pub kind: String,
        /// Its name.
        pub name: String,
        /// Its namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
    }

    /// GatewayClassStatus is the current status of the GatewayClass.
    pub struct GatewayClassStatus {
        /// Accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub conditions: Option<Vec<Condition>>,
        /// The features that the controller supports, sorted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub supported_features: Option<Vec<SupportedFeature>>,
    }

    /// SupportedFeature is a feature by its name in the conformance tests.
    pub struct SupportedFeature {
        /// Its name.
        pub name: String,
    }

    /// Gateway represents an instance of a service-traffic handling infrastructure by binding Listeners to a set of
    /// addresses.
    pub struct Gateway {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: GatewaySpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<GatewayStatus>,
    }

    /// GatewaySpec defines the desired state of Gateway.
    pub struct GatewaySpec {
        /// The class.
        pub gateway_class_name: String,
        /// Where it listens.
        pub listeners: Vec<Listener>,
        /// Addresses asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub addresses: Option<Vec<GatewayAddress>>,
        /// What is passed on to what is made for the Gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub infrastructure: Option<GatewayInfrastructure>,
    }

    /// GatewayInfrastructure is passed on to what is made for a Gateway.
    pub struct GatewayInfrastructure {
        /// Labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub labels: Option<BTreeMap<String, String>>,
        /// Annotations.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub annotations: Option<BTreeMap<String, String>>,
        /// Parameters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parameters_ref: Option<LocalReference>,
    }

    /// LocalReference names an object of the same namespace.
    pub struct LocalReference {
        /// Its group.
        pub group: String,
        /// Its kind.
        pub kind: String,
        /// Its name.
        pub name: String,
    }

    /// GatewayAddress is an address by its type.
    pub struct GatewayAddress {
        /// IPAddress, Hostname or a domain-prefixed one.
        #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "IPAddress")))]
        pub type_: Option<String>,
        /// The address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub value: Option<String>,
    }

    /// Listener is a logical endpoint where the Gateway accepts connections.
    pub struct Listener {
        /// Unique within the Gateway.
        pub name: String,
        /// The host that it is for; all if there is none. The first label may be `*`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hostname: Option<String>,
        /// Its port.
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: i32,
        /// HTTP, HTTPS, TLS, TCP, UDP or a domain-prefixed one.
        pub protocol: String,
        /// Certificates, for HTTPS and TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tls: Option<ListenerTls>,
        /// Which routes may be attached.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub allowed_routes: Option<AllowedRoutes>,
    }

    /// ListenerTls is the TLS configuration of a listener.
    pub struct ListenerTls {
        /// Terminate or Passthrough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Terminate", "enum" = ["Terminate", "Passthrough"])))]
        pub mode: Option<String>,
        /// The Secrets with certificates and keys.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub certificate_refs: Option<Vec<SecretReference>>,
        /// Options of the implementation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub options: Option<BTreeMap<String, String>>,
    }

    /// SecretReference names a Secret, maybe of another namespace.
    pub struct SecretReference {
        /// Its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "")))]
        pub group: Option<String>,
        /// Its kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Secret")))]
        pub kind: Option<String>,
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the Gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
    }

    /// AllowedRoutes says which routes may be attached to a listener.
    pub struct AllowedRoutes {
        /// From which namespaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = {"from": "Same"})))]
        pub namespaces: Option<RouteNamespaces>,
        /// Of which kinds; by default those that fit the protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub kinds: Option<Vec<RouteGroupKind>>,
    }

    /// RouteNamespaces says from which namespaces routes may be attached.
    pub struct RouteNamespaces {
        /// All, Selector or Same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Same", "enum" = ["All", "Selector", "Same"])))]
        pub from: Option<String>,
        /// For Selector: the labels of the namespaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub selector: Option<LabelSelector>,
    }

    /// RouteGroupKind is a kind of route.
    pub struct RouteGroupKind {
        /// Its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "gateway.networking.k8s.io")))]
        pub group: Option<String>,
        /// Its kind.
        pub kind: String,
    }

    /// GatewayStatus defines the observed state of Gateway.
    pub struct GatewayStatus {
        /// Where it is reached.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub addresses: Option<Vec<GatewayAddress>>,
        /// Accepted, Programmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub conditions: Option<Vec<Condition>>,
        /// One a listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub listeners: Option<Vec<ListenerStatus>>,
    }

    /// ListenerStatus is the status of one listener.
    pub struct ListenerStatus {
        /// Its name.
        pub name: String,
        /// The kinds of routes that it supports.
        #[serde(default)]
        pub supported_kinds: Vec<RouteGroupKind>,
        /// How many routes are attached.
        #[serde(default)]
        pub attached_routes: i32,
        /// Accepted, ResolvedRefs, Programmed, Conflicted.
        #[serde(default)]
        pub conditions: Vec<Condition>,
    }

    /// HTTPRoute provides a way to route HTTP requests.
    pub struct HTTPRoute {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: HTTPRouteSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<RouteStatus>,
    }

    /// HTTPRouteSpec defines the desired state of HTTPRoute.
    pub struct HTTPRouteSpec {
        /// The Gateways that it is attached to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parent_refs: Option<Vec<ParentReference>>,
        /// The hosts that it is for; those of the listener if there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hostnames: Option<Vec<String>>,
        /// What becomes of which requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rules: Option<Vec<HTTPRouteRule>>,
    }

    /// ParentReference names a Gateway, or one listener of it.
    pub struct ParentReference {
        /// Its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "gateway.networking.k8s.io")))]
        pub group: Option<String>,
        /// Its kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Gateway")))]
        pub kind: Option<String>,
        /// Its namespace; by default that of the route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        /// Its name.
        pub name: String,
        /// The name of a listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub section_name: Option<String>,
        /// The port of listeners.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
    }

    /// HTTPRouteRule says what becomes of the requests that it matches.
    pub struct HTTPRouteRule {
        /// Unique within the route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// Any of them must match; all requests if there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub matches: Option<Vec<HTTPRouteMatch>>,
        /// What is done to the requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub filters: Option<Vec<HTTPRouteFilter>>,
        /// Where they go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub backend_refs: Option<Vec<HTTPBackendRef>>,
        /// How long they may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub timeouts: Option<HTTPRouteTimeouts>,
    }

    /// HTTPRouteTimeouts are durations such as 10s or 1m30s; 0s is none.
    pub struct HTTPRouteTimeouts {
        /// For the whole request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request: Option<String>,
        /// For each try with a backend.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub backend_request: Option<String>,
    }

    /// HTTPRouteMatch matches requests of which all its parts are true.
    pub struct HTTPRouteMatch {
        /// The path; by default every path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = {"type": "PathPrefix", "value": "/"})))]
        pub path: Option<HTTPPathMatch>,
        /// Headers, all of which must be there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub headers: Option<Vec<HTTPValueMatch>>,
        /// Query parameters, all of which must be there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub query_params: Option<Vec<HTTPValueMatch>>,
        /// The method.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("enum" = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])))]
        pub method: Option<String>,
    }

    /// HTTPPathMatch matches paths.
    pub struct HTTPPathMatch {
        /// Exact, PathPrefix or RegularExpression.
        #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "PathPrefix", "enum" = ["Exact", "PathPrefix", "RegularExpression"])))]
        pub type_: Option<String>,
        /// The path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "/")))]
        pub value: Option<String>,
    }

    /// HTTPValueMatch matches a header or a query parameter.
    pub struct HTTPValueMatch {
        /// Exact or RegularExpression.
        #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Exact", "enum" = ["Exact", "RegularExpression"])))]
        pub type_: Option<String>,
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// HTTPRouteFilter is something done to requests or answers. The field that fits its type is set.
    pub struct HTTPRouteFilter {
        /// Which filter.
        #[serde(rename = "type")]
        #[cfg_attr(feature = "schemars", schemars(extend("enum" = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "ExtensionRef"])))]
        pub type_: String,
        /// Changes headers of requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request_header_modifier: Option<HTTPHeaderFilter>,
        /// Changes headers of answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub response_header_modifier: Option<HTTPHeaderFilter>,
        /// Copies requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request_mirror: Option<HTTPRequestMirrorFilter>,
        /// Answers with a redirect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request_redirect: Option<HTTPRequestRedirectFilter>,
        /// Changes host or path on the way.
        #[serde(rename = "urlRewrite", default, skip_serializing_if = "Option::is_none")]
        pub url_rewrite: Option<HTTPURLRewriteFilter>,
        /// A filter of another kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub extension_ref: Option<LocalReference>,
    }

    /// HTTPHeaderFilter changes headers.
    pub struct HTTPHeaderFilter {
        /// Replaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub set: Option<Vec<HTTPHeader>>,
        /// Adds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub add: Option<Vec<HTTPHeader>>,
        /// Removes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub remove: Option<Vec<String>>,
    }

    /// HTTPHeader is a header.
    pub struct HTTPHeader {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// HTTPRequestMirrorFilter copies requests to a backend whose answers are dropped.
    pub struct HTTPRequestMirrorFilter {
        /// Where copies go.
        pub backend_ref: BackendReference,
        /// How many of a hundred.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 0, "maximum" = 100)))]
        pub percent: Option<i32>,
        /// What part of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub fraction: Option<Fraction>,
    }

    /// Fraction is a part of a whole.
    pub struct Fraction {
        /// So many.
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 0)))]
        pub numerator: i32,
        /// Of so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 100, "minimum" = 1)))]
        pub denominator: Option<i32>,
    }

    /// BackendReference names a Service, maybe of another namespace.
    pub struct BackendReference {
        /// Its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "")))]
        pub group: Option<String>,
        /// Its kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Service")))]
        pub kind: Option<String>,
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        /// Its port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
    }

    /// HTTPBackendRef is a Service with a share of the requests.
    pub struct HTTPBackendRef {
        /// Its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "")))]
        pub group: Option<String>,
        /// Its kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Service")))]
        pub kind: Option<String>,
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        /// Its port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// Its share in proportion to the others'.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 1, "minimum" = 0, "maximum" = 1000000)))]
        pub weight: Option<i32>,
        /// What is done to its requests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub filters: Option<Vec<HTTPRouteFilter>>,
    }

    /// HTTPRequestRedirectFilter answers with a redirect. What it does not name stays as it is.
    pub struct HTTPRequestRedirectFilter {
        /// http or https.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("enum" = ["http", "https"])))]
        pub scheme: Option<String>,
        /// The host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hostname: Option<String>,
        /// The path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<HTTPPathModifier>,
        /// The port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// 301 or 302.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 302)))]
        pub status_code: Option<i32>,
    }

    /// HTTPURLRewriteFilter changes host or path on the way.
    pub struct HTTPURLRewriteFilter {
        /// The host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hostname: Option<String>,
        /// The path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<HTTPPathModifier>,
    }

    /// HTTPPathModifier makes another path.
    pub struct HTTPPathModifier {
        /// ReplaceFullPath or ReplacePrefixMatch.
        #[serde(rename = "type")]
        #[cfg_attr(feature = "schemars", schemars(extend("enum" = ["ReplaceFullPath", "ReplacePrefixMatch"])))]
        pub type_: String,
        /// The whole path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub replace_full_path: Option<String>,
        /// What stands for the prefix that was matched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub replace_prefix_match: Option<String>,
    }

    /// RouteStatus is the status of a route, by parent.
    pub struct RouteStatus {
        /// One a parent and controller.
        #[serde(default)]
        pub parents: Vec<RouteParentStatus>,
    }

    /// RouteParentStatus is the status of a route with respect to one parent.
    pub struct RouteParentStatus {
        /// The parent.
        pub parent_ref: ParentReference,
        /// The controller that wrote this.
        pub controller_name: String,
        /// Accepted, ResolvedRefs.
        #[serde(default)]
        pub conditions: Vec<Condition>,
    }

    /// ReferenceGrant lets objects of other namespaces refer to objects of its own.
    pub struct ReferenceGrant {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// Who may refer to what.
        pub spec: ReferenceGrantSpec,
    }

    /// ReferenceGrantSpec says who may refer to what.
    pub struct ReferenceGrantSpec {
        /// Who.
        pub from: Vec<ReferenceGrantFrom>,
        /// To what.
        pub to: Vec<ReferenceGrantTo>,
    }

    /// ReferenceGrantFrom is a kind of objects in a namespace.
    pub struct ReferenceGrantFrom {
        /// Their group.
        pub group: String,
        /// Their kind.
        pub kind: String,
        /// Their namespace.
        pub namespace: String,
    }

    /// ReferenceGrantTo is a kind of objects of this namespace, or one of them.
    pub struct ReferenceGrantTo {
        /// Their group; empty for the core group.
        pub group: String,
        /// Their kind.
        pub kind: String,
        /// The name of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
    }
}
