//! The Kubernetes API server: HTTP → authenticate → authorize → admit → one generic pipeline over the
//! catalogue → store; and watch, discovery and OpenAPI beside it.
//!
//! A kind is one entry of `api`'s catalogue; nothing here is written for one kind but what upstream itself
//! makes special (subresources such as `pods/binding`, the addresses of Services, reviews).

mod admission;
mod allocate;
mod authn;
mod authz;
mod body;
mod bootstrap;
mod cache;
mod call;
mod components;
mod config;
mod decode;
mod discovery;
mod encode;
mod failure;
mod guard;
mod handler;
mod health;
mod impersonation;
mod in_process;
mod keep;
mod kubelet;
mod links;
mod managed;
mod metrics;
mod negotiate;
mod node_proxy;
mod path;
mod precedence;
mod protobuf;
mod query;
mod respond;
mod scan;
mod secret_token;
mod selection;
mod serve;
mod server;
mod subresources;
mod token;
mod token_uses;
mod trees;
mod usage;
mod verbs;
mod version;

pub use authz::{Action, AllowAll, Authorizer, Decision};
pub use body::{Body, BoxError};
pub use components::{CONTROLLER_MANAGER, Components, Running, SCHEDULER};
pub use config::{Cidr, Config, NoNodes, NodeConnector, NodeStream, User};
pub use guard::is_answering;
pub use in_process::InProcess;
pub use server::{ApiServer, StartError};
