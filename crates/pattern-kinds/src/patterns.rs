//! `patterns.hythe.dev/v1`.

use k8s_openapi::{
    api::core::v1::{Container, PersistentVolumeClaim, PodTemplateSpec, ResourceRequirements, Volume},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, LabelSelector, ObjectMeta},
    },
};

use crate::{kind, types};

/// The group of these kinds.
pub const GROUP: &str = "patterns.hythe.dev";

kind!(ShardedService, "patterns.hythe.dev", "v1", "shardedservices", NamespaceResourceScope);
kind!(RequestSplit, "patterns.hythe.dev", "v1", "requestsplits", NamespaceResourceScope);
kind!(CacheTier, "patterns.hythe.dev", "v1", "cachetiers", NamespaceResourceScope);
kind!(RateLimit, "patterns.hythe.dev", "v1", "ratelimits", NamespaceResourceScope);
kind!(ScatterGather, "patterns.hythe.dev", "v1", "scattergathers", NamespaceResourceScope);
kind!(Sidecar, "patterns.hythe.dev", "v1", "sidecars", NamespaceResourceScope);

types! {
    /// ShardedService spreads the keys of one service over several servers by consistent hashing. Clients speak to the
    /// Service that bears its name, whose pods are sharding proxies.
    pub struct ShardedService {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: ShardedServiceSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// ShardedServiceSpec says which servers hold the shards and how keys find them.
    pub struct ShardedServiceSpec {
        /// What clients and shards speak: Redis, Memcached or HTTP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Redis", "enum" = ["Redis", "Memcached", "HTTP"])))]
        pub protocol: Option<String>,
        /// The port of the Service; by default 6379 for Redis, 11211 for Memcached and 80 for HTTP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// Which servers hold the shards. Exactly one of its fields is set, or none if configFrom names a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub shards: Option<Shards>,
        /// A twemproxy configuration file (nutcracker.yaml) that is used as it is instead of the fields below. Its
        /// pool must listen on the port of the Service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub config_from: Option<ConfigKey>,
        /// The hash function, by twemproxy's names. Keys that differ only at their end are spread by murmur, md5 and
        /// one_at_a_time; those of the fnv family and the crcs crowd them on few shards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "murmur")))]
        pub hash: Option<String>,
        /// How hashes are spread over shards: ketama (consistent), modula or random.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "ketama", "enum" = ["ketama", "modula", "random"])))]
        pub distribution: Option<String>,
        /// Two characters: only what stands between them in a key is hashed, such as "{}".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub hash_tag: Option<String>,
        /// How long a shard may take to answer, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 400, "minimum" = 1)))]
        pub timeout_milliseconds: Option<i32>,
        /// Leaves out shards that fail; without it a failing shard's keys fail.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub auto_eject: Option<AutoEject>,
        /// The routers' Deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tier: Option<Tier>,
    }

    /// Shards names the servers.
    pub struct Shards {
        /// The pods of a StatefulSet that is there already, by their DNS names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub stateful_set: Option<StatefulSetShards>,
        /// Services, each of which is one shard (and may be replicated).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub services: Option<Vec<WeightedService>>,
        /// Servers made for the purpose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub template: Option<ShardTemplate>,
    }

    /// StatefulSetShards names a StatefulSet of the same namespace.
    pub struct StatefulSetShards {
        /// Its name.
        pub name: String,
        /// The port of its pods; by default that of the protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
    }

    /// ShardTemplate describes shards made for the purpose: a StatefulSet NAME-shard and its headless Service.
    pub struct ShardTemplate {
        /// How many shards.
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 1000)))]
        pub replicas: i32,
        /// The port of their pods; by default that of the protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// Their pods.
        pub template: PodTemplateSpec,
        /// Their claims.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub volume_claim_templates: Option<Vec<PersistentVolumeClaim>>,
    }

    /// ConfigKey names a key of a ConfigMap of the same namespace.
    pub struct ConfigKey {
        /// The ConfigMap.
        pub name: String,
        /// The key.
        pub key: String,
    }

    /// AutoEject says when a shard is left out and when it is tried again.
    pub struct AutoEject {
        /// Failures in a row after which a shard is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 2, "minimum" = 1)))]
        pub failures: Option<i32>,
        /// After how many milliseconds it is tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 30000, "minimum" = 1)))]
        pub retry_milliseconds: Option<i32>,
    }

    /// WeightedService is a Service of the same namespace with a share.
    pub struct WeightedService {
        /// Its name.
        pub name: String,
        /// Its port; by default that of the pattern's own Service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// Its share in proportion to the others'.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 1, "minimum" = 0, "maximum" = 1000000)))]
        pub weight: Option<i32>,
    }

    /// ServicePort names a port of a Service of the same namespace.
    pub struct ServicePort {
        /// The Service.
        pub name: String,
        /// Its port; by default that of the pattern's own Service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
    }

    /// Tier is the Deployment of a pattern's own containers.
    pub struct Tier {
        /// How many pods.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 0, "maximum" = 1000)))]
        pub replicas: Option<i32>,
        /// The image; by default the one that the controller comes with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub image: Option<String>,
        /// What each pod asks for and is limited to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resources: Option<ResourceRequirements>,
        /// The type of the Service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "ClusterIP", "enum" = ["ClusterIP", "NodePort", "LoadBalancer"])))]
        pub service_type: Option<String>,
        /// The port on every node, for a Service of type NodePort or LoadBalancer; one is chosen by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub node_port: Option<i32>,
    }

    /// PatternStatus is what is known of a pattern.
    pub struct PatternStatus {
        /// The generation that the rest is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub observed_generation: Option<i64>,
        /// How many pods its tier should have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub replicas: Option<i32>,
        /// How many of them are ready.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ready_replicas: Option<i32>,
        /// How many servers are behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub backends: Option<i32>,
        /// Where clients reach it: NAME.NAMESPACE.svc:PORT.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
        /// Accepted: what is asked for can be done. Programmed: the configuration is written. Ready: it serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub conditions: Option<Vec<Condition>>,
    }

    /// RequestSplit sends shares of the requests to different Services, and copies of them to another.
    pub struct RequestSplit {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: RequestSplitSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// RequestSplitSpec says which Services and in what shares.
    pub struct RequestSplitSpec {
        /// The port of the Service that bears the split's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 80, "minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// The Services with their weights.
        #[cfg_attr(feature = "schemars", schemars(extend("minItems" = 1)))]
        pub backends: Vec<WeightedService>,
        /// What keeps a user at one Service; without it every request is decided anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub sticky: Option<Sticky>,
        /// Gets copies of requests; its answers are dropped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tee: Option<Tee>,
        /// The splitters' Deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tier: Option<Tier>,
    }

    /// Sticky says by what a user is known.
    pub struct Sticky {
        /// Address, Cookie or Header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Address", "enum" = ["Address", "Cookie", "Header"])))]
        pub by: Option<String>,
        /// The name of the cookie or of the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
    }

    /// Tee gets copies of requests.
    pub struct Tee {
        /// The Service.
        pub name: String,
        /// Its port; by default that of the split.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// How many of a hundred requests are copied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 100, "minimum" = 0, "maximum" = 100)))]
        pub percent: Option<i32>,
    }

    /// CacheTier answers requests for a Service from memory where HTTP allows it: few replicas, and large ones.
    pub struct CacheTier {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: CacheTierSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// CacheTierSpec says what is cached and in how much memory.
    pub struct CacheTierSpec {
        /// The port of the Service that bears the tier's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 80, "minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// The Service behind it.
        pub service: ServicePort,
        /// How much memory the answers of one replica may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "256Mi")))]
        pub memory: Option<Quantity>,
        /// How much disk they may take beyond that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub disk: Option<Quantity>,
        /// The largest answer that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_object_size: Option<Quantity>,
        /// The caches' Deployment; two replicas unless it says otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tier: Option<Tier>,
    }

    /// RateLimit stands before a Service and refuses what is too much.
    pub struct RateLimit {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: RateLimitSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// RateLimitSpec says who may ask how often.
    pub struct RateLimitSpec {
        /// The port of the Service that bears the limit's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 80, "minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// The Service behind it.
        pub service: ServicePort,
        /// TokenBucket lets bursts pass, SlidingWindow counts exactly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "TokenBucket", "enum" = ["TokenBucket", "SlidingWindow"])))]
        pub algorithm: Option<String>,
        /// What is counted by: Address, Header or Path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Address", "enum" = ["Address", "Header", "Path"])))]
        pub by: Option<String>,
        /// The header, where it is counted by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub header: Option<String>,
        /// How much everybody may ask.
        pub limit: Allowance,
        /// How much those may ask who show who they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub authenticated: Option<AuthenticatedAllowance>,
        /// Whether the replicas count together (each key is one replica's business), or each for itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = true)))]
        pub shared: Option<bool>,
        /// The limiters' Deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tier: Option<Tier>,
    }

    /// Allowance is a number of requests in a time.
    pub struct Allowance {
        /// So many requests.
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1)))]
        pub requests: i64,
        /// In so many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 1, "minimum" = 1, "maximum" = 86400)))]
        pub period_seconds: Option<i32>,
        /// So many at once; by default as many as in one period.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1)))]
        pub burst: Option<i64>,
    }

    /// AuthenticatedAllowance is what those may ask who send a certain header.
    pub struct AuthenticatedAllowance {
        /// The header that says who asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Authorization")))]
        pub header: Option<String>,
        /// How much each of them may ask.
        pub limit: Allowance,
    }

    /// ScatterGather sends each request to all leaves and makes one answer of theirs.
    pub struct ScatterGather {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: ScatterGatherSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// ScatterGatherSpec says which leaves are asked and how their answers are merged.
    pub struct ScatterGatherSpec {
        /// The port of the Service that bears the root's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 80, "minimum" = 1, "maximum" = 65535)))]
        pub port: Option<i32>,
        /// The leaves, each of them a Service.
        #[cfg_attr(feature = "schemars", schemars(extend("minItems" = 1)))]
        pub leaves: Vec<ServicePort>,
        /// How answers become one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = "Union", "enum" = ["Union", "Intersection", "TopK", "Sum", "Function"])))]
        pub merge: Option<String>,
        /// For TopK: how many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("minimum" = 1)))]
        pub top: Option<i32>,
        /// For TopK and Sum: the field that counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub field: Option<String>,
        /// For Function: the URL to which the answers are posted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub function: Option<String>,
        /// How long the whole may take, in milliseconds; what is there by then is answered, with a mark.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = 1000, "minimum" = 1)))]
        pub deadline_milliseconds: Option<i32>,
        /// Whether a leaf that is slower than most is asked a second time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schemars", schemars(extend("default" = true)))]
        pub hedge: Option<bool>,
        /// The roots' Deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tier: Option<Tier>,
    }

    /// Sidecar adds containers to new pods of its namespace that its selector selects.
    pub struct Sidecar {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: SidecarSpec,
        /// What is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<PatternStatus>,
    }

    /// SidecarSpec says which pods get what.
    pub struct SidecarSpec {
        /// Which pods; an empty selector selects all of the namespace.
        pub selector: LabelSelector,
        /// The containers. One without an image runs the pattern containers' own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub containers: Option<Vec<Container>>,
        /// Containers that run before the pod's own, or beside them with restartPolicy Always.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub init_containers: Option<Vec<Container>>,
        /// The volumes that they mount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub volumes: Option<Vec<Volume>>,
        /// Whether the pod's containers see each other's processes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub share_process_namespace: Option<bool>,
    }
}
