//! Acting as someone else: the headers `Impersonate-…`, which `kubectl --as` sends.

use api::status::Status;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::{authn, config::User, failure::Outcome, path::ResourcePath, token};

/// What the names of the headers for `extra` begin with; the key follows.
const EXTRA: &str = "impersonate-extra-";

/// Whom the headers name; `None` if they name nobody. `may` is asked for every part of that user, by the path that
/// upstream gives it.
pub(crate) fn impersonated(headers: &HeaderMap, may: impl Fn(&ResourcePath) -> Outcome<()>) -> Outcome<Option<User>> {
    if !headers.keys().any(is_about_it) {
        return Ok(None);
    }
    let mut user = named(headers);
    if user.name.is_empty() {
        let why = "requested a uid, groups or extra without impersonating a user";
        return if user == User::default() { Ok(None) } else { Err(Status::internal_error(why)) };
    }
    parts(&user).iter().try_for_each(may)?;
    if let Some((namespace, account)) = account(&user.name).filter(|_| user.groups.is_empty()) {
        user.groups = token::account_user(namespace, account, "").groups;
    }
    let everyone = if user.name == authn::ANONYMOUS { authn::ANONYMOUS_GROUP } else { authn::AUTHENTICATED_GROUP };
    if !user.groups.iter().any(|group| group == everyone || group == authn::ANONYMOUS_GROUP) {
        user.groups.push(everyone.into());
    }
    Ok(Some(user))
}

/// Takes the headers out: who is behind a proxy has not been asked.
pub(crate) fn forget(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_about_it(name)).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

fn is_about_it(name: &HeaderName) -> bool {
    name.as_str().starts_with("impersonate-")
}

/// The user as the headers have it.
fn named(headers: &HeaderMap) -> User {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let extra = |name: &str| {
        let key = percent_decode_str(name.strip_prefix(EXTRA)?).decode_utf8_lossy().into_owned();
        Some((key, all(name)))
    };
    User {
        name: one("impersonate-user"),
        uid: one("impersonate-uid"),
        groups: all("impersonate-group"),
        extra: headers.keys().filter_map(|name| extra(name.as_str())).collect(),
    }
}

/// What must be allowed to be impersonated.
fn parts(user: &User) -> Vec<ResourcePath> {
    let core = |resource: &str, namespace: &str, name: &str| ResourcePath {
        namespace: namespace.into(),
        resource: resource.into(),
        name: name.into(),
        ..ResourcePath::default()
    };
    let authentication = |resource: &str, key: &str, name: &str| ResourcePath {
        group: "authentication.k8s.io".into(),
        version: "v1".into(),
        subresource: key.into(),
        ..core(resource, "", name)
    };
    let mut parts = vec![match account(&user.name) {
        Some((namespace, name)) => core("serviceaccounts", namespace, name),
        None => core("users", "", &user.name),
    }];
    parts.extend(user.groups.iter().map(|group| core("groups", "", group)));
    if !user.uid.is_empty() {
        parts.push(authentication("uids", "", &user.uid));
    }
    for (key, values) in &user.extra {
        parts.extend(values.iter().map(|value| authentication("userextras", key, value)));
    }
    parts
}

/// Namespace and name of the service account, if the user is one.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
