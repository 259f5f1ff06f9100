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
        pub status?: GatewayClassStatus,
    }

    /// GatewayClassSpec reflects the configuration of a class of Gateways.
    pub struct GatewayClassSpec {
        /// The controller that manages Gateways of this class, a domain-prefixed path. It can't change.
        pub controller_name: String,
        /// Parameters of the controller.
        pub parameters_ref?: ParametersReference,
        /// For people.
        pub description?: String,
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
        pub namespace?: String,
    }

    /// GatewayClassStatus is the current status of the GatewayClass.
    pub struct GatewayClassStatus {
        /// Accepted.
        pub conditions?: Vec<Condition>,
        /// The features that the controller supports, sorted.
        pub supported_features?: Vec<SupportedFeature>,
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
        pub status?: GatewayStatus,
    }

    /// GatewaySpec defines the desired state of Gateway.
    pub struct GatewaySpec {
        /// The class.
        pub gateway_class_name: String,
        /// Where it listens.
        pub listeners: Vec<Listener>,
        /// Addresses asked for.
        pub addresses?: Vec<GatewayAddress>,
        /// What is passed on to what is made for the Gateway.
        pub infrastructure?: GatewayInfrastructure,
    }

    /// GatewayInfrastructure is passed on to what is made for a Gateway.
    pub struct GatewayInfrastructure {
        /// Labels.
        pub labels?: BTreeMap<String, String>,
        /// Annotations.
        pub annotations?: BTreeMap<String, String>,
        /// Parameters.
        pub parameters_ref?: LocalReference,
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
        #[serde(rename = "type")]
        pub type_?: String = ["default" = "IPAddress"],
        /// The address.
        pub value?: String,
    }

    /// Listener is a logical endpoint where the Gateway accepts connections.
    pub struct Listener {
        /// Unique within the Gateway.
        pub name: String,
        /// The host that it is for; all if there is none. The first label may be `*`.
        pub hostname?: String,
        /// Its port.
        pub port: i32 = ["minimum" = 1, "maximum" = 65535],
        /// HTTP, HTTPS, TLS, TCP, UDP or a domain-prefixed one.
        pub protocol: String,
        /// Certificates, for HTTPS and TLS.
        pub tls?: ListenerTls,
        /// Which routes may be attached.
        pub allowed_routes?: AllowedRoutes,
    }

    /// ListenerTls is the TLS configuration of a listener.
    pub struct ListenerTls {
        /// Terminate or Passthrough.
        pub mode?: String = ["default" = "Terminate", "enum" = ["Terminate", "Passthrough"]],
        /// The Secrets with certificates and keys.
        pub certificate_refs?: Vec<SecretReference>,
        /// Options of the implementation.
        pub options?: BTreeMap<String, String>,
    }

    /// SecretReference names a Secret, maybe of another namespace.
    pub struct SecretReference {
        /// Its group.
        pub group?: String = ["default" = ""],
        /// Its kind.
        pub kind?: String = ["default" = "Secret"],
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the Gateway.
        pub namespace?: String,
    }

    /// AllowedRoutes says which routes may be attached to a listener.
    pub struct AllowedRoutes {
        /// From which namespaces.
        pub namespaces?: RouteNamespaces = ["default" = {"from": "Same"}],
        /// Of which kinds; by default those that fit the protocol.
        pub kinds?: Vec<RouteGroupKind>,
    }

    /// RouteNamespaces says from which namespaces routes may be attached.
    pub struct RouteNamespaces {
        /// All, Selector or Same.
        pub from?: String = ["default" = "Same", "enum" = ["All", "Selector", "Same"]],
        /// For Selector: the labels of the namespaces.
        pub selector?: LabelSelector,
    }

    /// RouteGroupKind is a kind of route.
    pub struct RouteGroupKind {
        /// Its group.
        pub group?: String = ["default" = "gateway.networking.k8s.io"],
        /// Its kind.
        pub kind: String,
    }

    /// GatewayStatus defines the observed state of Gateway.
    pub struct GatewayStatus {
        /// Where it is reached.
        pub addresses?: Vec<GatewayAddress>,
        /// Accepted, Programmed.
        pub conditions?: Vec<Condition>,
        /// One a listener.
        pub listeners?: Vec<ListenerStatus>,
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
        pub status?: RouteStatus,
    }

    /// HTTPRouteSpec defines the desired state of HTTPRoute.
    pub struct HTTPRouteSpec {
        /// The Gateways that it is attached to.
        pub parent_refs?: Vec<ParentReference>,
        /// The hosts that it is for; those of the listener if there are none.
        pub hostnames?: Vec<String>,
        /// What becomes of which requests.
        pub rules?: Vec<HTTPRouteRule>,
    }

    /// ParentReference names a Gateway, or one listener of it.
    pub struct ParentReference {
        /// Its group.
        pub group?: String = ["default" = "gateway.networking.k8s.io"],
        /// Its kind.
        pub kind?: String = ["default" = "Gateway"],
        /// Its namespace; by default that of the route.
        pub namespace?: String,
        /// Its name.
        pub name: String,
        /// The name of a listener.
        pub section_name?: String,
        /// The port of listeners.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
    }

    /// HTTPRouteRule says what becomes of the requests that it matches.
    pub struct HTTPRouteRule {
        /// Unique within the route.
        pub name?: String,
        /// Any of them must match; all requests if there are none.
        pub matches?: Vec<HTTPRouteMatch>,
        /// What is done to the requests.
        pub filters?: Vec<HTTPRouteFilter>,
        /// Where they go.
        pub backend_refs?: Vec<HTTPBackendRef>,
        /// How long they may take.
        pub timeouts?: HTTPRouteTimeouts,
    }

    /// HTTPRouteTimeouts are durations such as 10s or 1m30s; 0s is none.
    pub struct HTTPRouteTimeouts {
        /// For the whole request.
        pub request?: String,
        /// For each try with a backend.
        pub backend_request?: String,
    }

    /// HTTPRouteMatch matches requests of which all its parts are true.
    pub struct HTTPRouteMatch {
        /// The path; by default every path.
        pub path?: HTTPPathMatch = ["default" = {"type": "PathPrefix", "value": "/"}],
        /// Headers, all of which must be there.
        pub headers?: Vec<HTTPValueMatch>,
        /// Query parameters, all of which must be there.
        pub query_params?: Vec<HTTPValueMatch>,
        /// The method.
        pub method?: String = ["enum" = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]],
    }

    /// HTTPPathMatch matches paths.
    pub struct HTTPPathMatch {
        /// Exact, PathPrefix or RegularExpression.
        #[serde(rename = "type")]
        pub type_?: String = ["default" = "PathPrefix", "enum" = ["Exact", "PathPrefix", "RegularExpression"]],
        /// The path.
        pub value?: String = ["default" = "/"],
    }

    /// HTTPValueMatch matches a header or a query parameter.
    pub struct HTTPValueMatch {
        /// Exact or RegularExpression.
        #[serde(rename = "type")]
        pub type_?: String = ["default" = "Exact", "enum" = ["Exact", "RegularExpression"]],
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// HTTPRouteFilter is something done to requests or answers. The field that fits its type is set.
    pub struct HTTPRouteFilter {
        /// Which filter.
        #[serde(rename = "type")]
        pub type_: String = ["enum" = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "ExtensionRef", "CORS"]],
        /// Changes headers of requests.
        pub request_header_modifier?: HTTPHeaderFilter,
        /// Changes headers of answers.
        pub response_header_modifier?: HTTPHeaderFilter,
        /// Copies requests.
        pub request_mirror?: HTTPRequestMirrorFilter,
        /// Answers with a redirect.
        pub request_redirect?: HTTPRequestRedirectFilter,
        /// Changes host or path on the way.
        #[serde(rename = "urlRewrite")]
        pub url_rewrite?: HTTPURLRewriteFilter,
        /// A filter of another kind.
        pub extension_ref?: LocalReference,
        /// Lets pages of other origins read the answers.
        pub cors?: HTTPCORSFilter,
    }

    /// HTTPCORSFilter answers preflight requests and tells browsers which pages of other origins may read answers.
    pub struct HTTPCORSFilter {
        /// scheme://host[:port], where a star stands for any labels; a star alone is every origin.
        pub allow_origins?: Vec<String>,
        /// Whether requests may carry cookies and the like.
        pub allow_credentials?: bool,
        /// Which methods; a star is all.
        pub allow_methods?: Vec<String>,
        /// Which headers requests may carry; a star is all.
        pub allow_headers?: Vec<String>,
        /// Which headers of answers pages may read.
        pub expose_headers?: Vec<String>,
        /// For how many seconds browsers keep the answer to a preflight request.
        pub max_age?: i32 = ["default" = 5, "minimum" = 1],
    }

    /// HTTPHeaderFilter changes headers.
    pub struct HTTPHeaderFilter {
        /// Replaces.
        pub set?: Vec<HTTPHeader>,
        /// Adds.
        pub add?: Vec<HTTPHeader>,
        /// Removes.
        pub remove?: Vec<String>,
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
        pub percent?: i32 = ["minimum" = 0, "maximum" = 100],
        /// What part of them.
        pub fraction?: Fraction,
    }

    /// Fraction is a part of a whole.
    pub struct Fraction {
        /// So many.
        pub numerator: i32 = ["minimum" = 0],
        /// Of so many.
        pub denominator?: i32 = ["default" = 100, "minimum" = 1],
    }

    /// BackendReference names a Service, maybe of another namespace.
    pub struct BackendReference {
        /// Its group.
        pub group?: String = ["default" = ""],
        /// Its kind.
        pub kind?: String = ["default" = "Service"],
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the route.
        pub namespace?: String,
        /// Its port.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
    }

    /// HTTPBackendRef is a Service with a share of the requests.
    pub struct HTTPBackendRef {
        /// Its group.
        pub group?: String = ["default" = ""],
        /// Its kind.
        pub kind?: String = ["default" = "Service"],
        /// Its name.
        pub name: String,
        /// Its namespace; by default that of the route.
        pub namespace?: String,
        /// Its port.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// Its share in proportion to the others'.
        pub weight?: i32 = ["default" = 1, "minimum" = 0, "maximum" = 1000000],
        /// What is done to its requests.
        pub filters?: Vec<HTTPRouteFilter>,
    }

    /// HTTPRequestRedirectFilter answers with a redirect. What it does not name stays as it is.
    pub struct HTTPRequestRedirectFilter {
        /// http or https.
        pub scheme?: String = ["enum" = ["http", "https"]],
        /// The host.
        pub hostname?: String,
        /// The path.
        pub path?: HTTPPathModifier,
        /// The port.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// 301 or 302.
        pub status_code?: i32 = ["default" = 302],
    }

    /// HTTPURLRewriteFilter changes host or path on the way.
    pub struct HTTPURLRewriteFilter {
        /// The host.
        pub hostname?: String,
        /// The path.
        pub path?: HTTPPathModifier,
    }

    /// HTTPPathModifier makes another path.
    pub struct HTTPPathModifier {
        /// ReplaceFullPath or ReplacePrefixMatch.
        #[serde(rename = "type")]
        pub type_: String = ["enum" = ["ReplaceFullPath", "ReplacePrefixMatch"]],
        /// The whole path.
        pub replace_full_path?: String,
        /// What stands for the prefix that was matched.
        pub replace_prefix_match?: String,
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
        pub name?: String,
    }
}
