//! POST: a new object.

use api::{
    status::Status,
    strategy::{self, addresses, metadata},
};
use jiff::Timestamp;
use serde_json::Value;
use store::{Change, Compare, Txn};

use crate::{
    admission::{self, Attributes, Operation, service_account},
    allocate,
    call::{Call, Reply},
    decode, encode,
    failure::Outcome,
    managed,
    query::WriteOptions,
    version,
};

/// Names tried for a `generateName` before giving up (upstream's number).
const NAME_ATTEMPTS: usize = 8;
/// Tries to get addresses that nobody else takes at the same time.
const ALLOCATION_ATTEMPTS: usize = 16;

/// The object in the body.
pub(crate) async fn create(call: &Call<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "CreateOptions")?;
    let mut tree = decode::object(call, &options)?;
    call.settle_owners(&mut tree, false);
    create_tree(call, tree, &options, managed::Author::Update).await
}

/// A new object that is decoded already. A `generateName` is tried several times.
pub(crate) async fn create_tree(
    call: &Call<'_>,
    tree: Value,
    options: &WriteOptions,
    author: managed::Author,
) -> Outcome<Reply> {
    let text = |field: &str| tree["metadata"][field].as_str().unwrap_or("").to_owned();
    let (name, prefix) = (text("name"), text("generateName"));
    if !name.is_empty() || prefix.is_empty() {
        return attempt(call, tree, &name, options, &author).await;
    }
    let mut tries = 0;
    loop {
        let name = metadata::generated_name(&prefix, &random_suffix());
        let mut candidate = tree.clone();
        candidate["metadata"]["name"] = name.as_str().into();
        tries += 1;
        match attempt(call, candidate, &name, options, &author).await {
            Err(status) if status.reason == "AlreadyExists" => {
                if tries >= NAME_ATTEMPTS {
                    let (group, plural) = (call.resource.group, call.resource.plural);
                    return Err(Status::generate_name_conflict(group, plural, &name, 1));
                }
            }
            other => return other,
        }
    }
}

async fn attempt(
    call: &Call<'_>,
    mut tree: Value,
    name: &str,
    options: &WriteOptions,
    author: &managed::Author,
) -> Outcome<Reply> {
    let (resource, strategy) = (call.resource, &call.resource.strategy);
    let now = Timestamp::now();
    let mut known = true;
    if resource.namespaced {
        tree["metadata"]["namespace"] = call.path.namespace.as_str().into();
        known = call.server.cache.kind("namespaces").named("", &call.path.namespace).is_some();
    }
    if !known || admission::looks_at_others(resource) {
        // What it depends on may have been made a moment ago.
        call.server.cache.fresh().await;
    }
    if resource.plural == "pods" && known {
        service_account::settle(call, &tree).await;
    }
    (strategy.default)(&mut tree);
    let asked = tree["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
    let uid = uuid::Uuid::new_v4().to_string();
    metadata::prepare_create(&mut tree, &uid, &rfc3339(now));
    (strategy.prepare_create)(&mut tree);
    strategy::after_identity(resource.group, resource.kind, &mut tree);
    managed::created(call, &mut tree, options, author, now);
    let attributes = Attributes {
        server: call.server,
        operation: Operation::Create,
        resource,
        subresource: "",
        namespace: &call.path.namespace,
        name,
        user: &call.user,
        old: None,
        warnings: &call.warnings,
    };
    admission::admit(&attributes, &mut tree)?;
    let mut faults = metadata::validate_create(&tree, strategy.name, resource.namespaced);
    faults.extend((strategy.validate)(&tree));
    faults.extend(addresses::faults(resource.group, resource.kind, &tree, None));
    if !faults.is_empty() {
        return Err(Status::invalid(resource.group, resource.kind, name, faults));
    }
    call.warn_of(&tree, None);
    if asked.is_some_and(|version| version != 0) {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let key = call.kind.key(&call.path.namespace, name);
    for _ in 0..ALLOCATION_ATTEMPTS {
        // What a try changes must not be there in the next one.
        let mut copy = (allocate::draws(resource) || !version::is_stored(resource)).then(|| tree.clone());
        let object = copy.as_mut().unwrap_or(&mut tree);
        let plan = allocate::plan(call, Some(&mut *object), None).await?;
        if options.dry_run {
            if call.kind.get(&key).is_some() {
                return Err(Status::already_exists(resource.group, resource.plural, name));
            }
            return Ok(Reply::Tree { code: 201, tree: object.take() });
        }
        version::to_stored(resource, object);
        let value = encode::encode(object);
        let mut txn = Txn {
            compares: vec![Compare { key: key.clone(), mod_revision: 0 }],
            changes: vec![Change::Put(key.clone(), value.clone())],
        };
        plan.extend(&mut txn);
        match call.txn(txn).await? {
            store::Outcome::Committed(revision) => {
                call.server.trees.keep(resource, &key, revision, value.bytes.len(), object.take());
                return Ok(Reply::Stored { code: 201, bytes: encode::stamped(&value, revision) });
            }
            store::Outcome::Conflict(found) if found.first().is_none_or(Option::is_some) => {
                return Err(Status::already_exists(resource.group, resource.plural, name));
            }
            store::Outcome::Conflict(found) => plan.check_refusal(call, name, &found[1..])?,
        }
    }
    Err(Status::server_timeout(resource.group, resource.plural, "create", 1))
}

/// Five characters that spell no words.
pub(crate) fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

/// RFC 3339 in seconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.0}")
}
