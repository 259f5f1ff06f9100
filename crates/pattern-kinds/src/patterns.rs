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
        pub status?: PatternStatus,
    }

    /// ShardedServiceSpec says which servers hold the shards and how keys find them.
    pub struct ShardedServiceSpec {
        /// What clients and shards speak: Redis, Memcached or HTTP.
        pub protocol?: String = ["default" = "Redis", "enum" = ["Redis", "Memcached", "HTTP"]],
        /// The port of the Service; by default 6379 for Redis, 11211 for Memcached and 80 for HTTP.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// Which servers hold the shards. Exactly one of its fields is set, or none if configFrom names a file.
        pub shards?: Shards,
        /// A twemproxy configuration file (nutcracker.yaml) that is used as it is instead of the fields below. Its
        /// pool must listen on the port of the Service.
        pub config_from?: ConfigKey,
        /// The hash function, by twemproxy's names. Keys that differ only at their end are spread by murmur, md5 and
        /// one_at_a_time; those of the fnv family and the crcs crowd them on few shards.
        pub hash?: String = ["default" = "murmur"],
        /// How hashes are spread over shards: ketama (consistent), modula or random.
        pub distribution?: String = ["default" = "ketama", "enum" = ["ketama", "modula", "random"]],
        /// Two characters: only what stands between them in a key is hashed, such as "{}".
        pub hash_tag?: String,
        /// How long a shard may take to answer, in milliseconds.
        pub timeout_milliseconds?: i32 = ["default" = 400, "minimum" = 1],
        /// Leaves out shards that fail; without it a failing shard's keys fail.
        pub auto_eject?: AutoEject,
        /// The routers' Deployment.
        pub tier?: Tier = ["default" = {"replicas": 2}],
    }

    /// Shards names the servers.
    pub struct Shards {
        /// The pods of a StatefulSet that is there already, by their DNS names.
        pub stateful_set?: StatefulSetShards,
        /// Services, each of which is one shard (and may be replicated).
        pub services?: Vec<WeightedService>,
        /// Servers made for the purpose.
        pub template?: ShardTemplate,
    }

    /// StatefulSetShards names a StatefulSet of the same namespace.
    pub struct StatefulSetShards {
        /// Its name.
        pub name: String,
        /// The port of its pods; by default that of the protocol.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
    }

    /// ShardTemplate describes shards made for the purpose: a StatefulSet NAME-shard and its headless Service.
    pub struct ShardTemplate {
        /// How many shards.
        pub replicas: i32 = ["minimum" = 1, "maximum" = 1000],
        /// The port of their pods; by default that of the protocol.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// Their pods.
        pub template: PodTemplateSpec,
        /// Their claims.
        pub volume_claim_templates?: Vec<PersistentVolumeClaim>,
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
        pub failures?: i32 = ["default" = 2, "minimum" = 1],
        /// After how many milliseconds it is tried again.
        pub retry_milliseconds?: i32 = ["default" = 30000, "minimum" = 1],
    }

    /// WeightedService is a Service of the same namespace with a share.
    pub struct WeightedService {
        /// Its name.
        pub name: String,
        /// Its port; by default that of the pattern's own Service.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// Its share in proportion to the others'.
        pub weight?: i32 = ["default" = 1, "minimum" = 0, "maximum" = 1000000],
    }

    /// ServicePort names a port of a Service of the same namespace.
    pub struct ServicePort {
        /// The Service.
        pub name: String,
        /// Its port; by default that of the pattern's own Service.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
    }

    /// Tier is the Deployment of a pattern's own containers.
    pub struct Tier {
        /// How many pods.
        pub replicas?: i32 = ["default" = 2, "minimum" = 0, "maximum" = 1000],
        /// The image; by default the one that the controller comes with.
        pub image?: String,
        /// What each pod asks for and is limited to.
        pub resources?: ResourceRequirements,
        /// The type of the Service.
        pub service_type?: String = ["default" = "ClusterIP", "enum" = ["ClusterIP", "NodePort", "LoadBalancer"]],
        /// The port on every node, for a Service of type NodePort or LoadBalancer; one is chosen by default.
        pub node_port?: i32 = ["minimum" = 1, "maximum" = 65535],
    }

    /// PatternStatus is what is known of a pattern.
    pub struct PatternStatus {
        /// The generation that the rest is about.
        pub observed_generation?: i64,
        /// How many pods its tier should have.
        pub replicas?: i32,
        /// Their labels as a selector, for autoscalers.
        pub selector?: String,
        /// How many of them are ready.
        pub ready_replicas?: i32,
        /// How many servers are behind it.
        pub backends?: i32,
        /// Where clients reach it: NAME.NAMESPACE.svc:PORT.
        pub address?: String,
        /// Accepted: what is asked for can be done. Programmed: the configuration is written. Ready: it serves.
        pub conditions?: Vec<Condition>,
    }

    /// RequestSplit sends shares of the requests to different Services, and copies of them to another.
    pub struct RequestSplit {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: RequestSplitSpec,
        /// What is.
        pub status?: PatternStatus,
    }

    /// RequestSplitSpec says which Services and in what shares.
    pub struct RequestSplitSpec {
        /// The port of the Service that bears the split's name.
        pub port?: i32 = ["default" = 80, "minimum" = 1, "maximum" = 65535],
        /// The Services with their weights.
        pub backends: Vec<WeightedService> = ["minItems" = 1],
        /// What keeps a user at one Service; without it every request is decided anew.
        pub sticky?: Sticky,
        /// Gets copies of requests; its answers are dropped.
        pub tee?: Tee,
        /// Networks, such as 10.42.0.0/16, of the proxies before it, whose word on who the client is counts (X-Forwarded-For,
        /// -Proto and -Host): an edge, another tier. Everyone else's is replaced.
        pub trusted_proxies?: Vec<String>,
        /// The splitters' Deployment.
        pub tier?: Tier = ["default" = {"replicas": 2}],
    }

    /// Sticky says by what a user is known.
    pub struct Sticky {
        /// Address, Cookie or Header.
        pub by?: String = ["default" = "Address", "enum" = ["Address", "Cookie", "Header"]],
        /// The name of the cookie or of the header.
        pub name?: String,
    }

    /// Tee gets copies of requests.
    pub struct Tee {
        /// The Service.
        pub name: String,
        /// Its port; by default that of the split.
        pub port?: i32 = ["minimum" = 1, "maximum" = 65535],
        /// How many of a hundred requests are copied.
        pub percent?: i32 = ["default" = 100, "minimum" = 0, "maximum" = 100],
    }

    /// CacheTier answers requests for a Service from memory where HTTP allows it: few replicas, and large ones.
    pub struct CacheTier {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: CacheTierSpec,
        /// What is.
        pub status?: PatternStatus,
    }

    /// CacheTierSpec says what is cached and in how much memory.
    pub struct CacheTierSpec {
        /// The port of the Service that bears the tier's name.
        pub port?: i32 = ["default" = 80, "minimum" = 1, "maximum" = 65535],
        /// The Service behind it.
        pub service: ServicePort,
        /// How much memory the answers of one replica may take.
        pub memory?: Quantity = ["default" = "256Mi"],
        /// How much disk they may take beyond that.
        pub disk?: Quantity,
        /// The largest answer that is kept.
        pub max_object_size?: Quantity,
        /// Networks, such as 10.42.0.0/16, whose clients may PURGE a URL, or by Surrogate-Key or Cache-Tag whatever bears a
        /// tag; all replicas then drop it. Nobody may unless this says so.
        pub purge_from?: Vec<String>,
        /// Networks, such as 10.42.0.0/16, of the proxies before it, whose word on who the client is counts (X-Forwarded-For,
        /// -Proto and -Host): an edge, another tier. Everyone else's is replaced.
        pub trusted_proxies?: Vec<String>,
        /// The caches' Deployment; two replicas unless it says otherwise.
        pub tier?: Tier = ["default" = {"replicas": 2}],
    }

    /// RateLimit stands before a Service and refuses what is too much.
    pub struct RateLimit {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: RateLimitSpec,
        /// What is.
        pub status?: PatternStatus,
    }

    /// RateLimitSpec says who may ask how often.
    pub struct RateLimitSpec {
        /// The port of the Service that bears the limit's name.
        pub port?: i32 = ["default" = 80, "minimum" = 1, "maximum" = 65535],
        /// The Service behind it.
        pub service: ServicePort,
        /// TokenBucket lets bursts pass, SlidingWindow counts exactly.
        pub algorithm?: String = ["default" = "TokenBucket", "enum" = ["TokenBucket", "SlidingWindow"]],
        /// What is counted by: Address, Header, Path or Identity, which is who a client proves to be by its certificate or
        /// Authorization, or else its address.
        pub by?: String = ["default" = "Address", "enum" = ["Address", "Header", "Path", "Identity"]],
        /// The header, where it is counted by one.
        pub header?: String,
        /// How much everybody may ask.
        pub limit: Allowance,
        /// How much those may ask who show who they are.
        pub authenticated?: AuthenticatedAllowance,
        /// Whether the replicas count together (each key is one replica's business), or each for itself.
        pub shared?: bool = ["default" = true],
        /// Networks, such as 10.42.0.0/16, of the proxies before it, whose word on who the client is counts (X-Forwarded-For,
        /// -Proto and -Host): an edge, another tier. Everyone else's is replaced.
        pub trusted_proxies?: Vec<String>,
        /// The limiters' Deployment.
        pub tier?: Tier = ["default" = {"replicas": 2}],
    }

    /// Allowance is a number of requests in a time.
    pub struct Allowance {
        /// So many requests.
        pub requests: i64 = ["minimum" = 1],
        /// In so many seconds.
        pub period_seconds?: i32 = ["default" = 1, "minimum" = 1, "maximum" = 86400],
        /// So many at once; by default as many as in one period.
        pub burst?: i64 = ["minimum" = 1],
    }

    /// AuthenticatedAllowance is what those may ask who send a certain header.
    pub struct AuthenticatedAllowance {
        /// The header that says who asks.
        pub header?: String = ["default" = "Authorization"],
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
        pub status?: PatternStatus,
    }

    /// ScatterGatherSpec says which leaves are asked and how their answers are merged.
    pub struct ScatterGatherSpec {
        /// The port of the Service that bears the root's name.
        pub port?: i32 = ["default" = 80, "minimum" = 1, "maximum" = 65535],
        /// The leaves, each of them a Service.
        pub leaves: Vec<ServicePort> = ["minItems" = 1],
        /// How answers become one.
        pub merge?: String = ["default" = "Union", "enum" = ["Union", "Intersection", "TopK", "Sum", "Function"]],
        /// For TopK: how many.
        pub top?: i32 = ["minimum" = 1],
        /// For TopK and Sum: the field that counts.
        pub field?: String,
        /// For Function: the URL to which the answers are posted.
        pub function?: String,
        /// How long the whole may take, in milliseconds; what is there by then is answered, with a mark.
        pub deadline_milliseconds?: i32 = ["default" = 1000, "minimum" = 1],
        /// Whether a leaf that is slower than most is asked a second time.
        pub hedge?: bool = ["default" = true],
        /// The roots' Deployment.
        pub tier?: Tier = ["default" = {"replicas": 2}],
    }

    /// Sidecar adds containers to new pods of its namespace that its selector selects.
    pub struct Sidecar {
        /// Standard object's metadata.
        #[serde(default)]
        pub metadata: ObjectMeta,
        /// What is wanted.
        pub spec: SidecarSpec,
        /// What is.
        pub status?: PatternStatus,
    }

    /// SidecarSpec says which pods get what.
    pub struct SidecarSpec {
        /// Which pods; an empty selector selects all of the namespace.
        pub selector: LabelSelector,
        /// The containers. One without an image runs the pattern containers' own.
        pub containers?: Vec<Container>,
        /// Containers that run before the pod's own, or beside them with restartPolicy Always.
        pub init_containers?: Vec<Container>,
        /// The volumes that they mount.
        pub volumes?: Vec<Volume>,
        /// Whether the pod's containers see each other's processes.
        pub share_process_namespace?: bool,
    }
}
