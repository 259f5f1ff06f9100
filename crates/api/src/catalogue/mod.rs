//! Every kind that Hythe serves, one entry each, and the ways to find one.
//!
//! The entries say what upstream's discovery of v1.36 says of the kinds that are served by default; the patterns and
//! the Gateway API, which others add by CustomResourceDefinitions, are built in.

mod autoscaling;
mod cluster;
mod core;
mod entry;
mod events;
mod extension;
mod metrics;
mod patterns;
mod review;
#[cfg(test)]
mod tests;
mod workload;

use std::sync::LazyLock;

use crate::resource::Resource;

/// All entries, in the order of discovery: the core group, then the groups as upstream orders them.
pub fn all() -> &'static [&'static Resource] {
    &CATALOGUE.all
}

/// The entry of that plural name.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let key = |r: &&Resource| (r.plural, r.group, r.version);
    let sorted = &CATALOGUE.by_plural;
    sorted.binary_search_by(|r| key(r).cmp(&(plural, group, version))).ok().map(|i| sorted[i])
}

/// The entry of that kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    let key = |r: &&Resource| (r.kind, r.group, r.version);
    let sorted = &CATALOGUE.by_kind;
    sorted.binary_search_by(|r| key(r).cmp(&(kind, group, version))).ok().map(|i| sorted[i])
}

/// The groups, the core group (`""`) first; each with its versions, the preferred one first.
pub fn groups() -> &'static [Group] {
    &CATALOGUE.groups
}

/// The entries of one group and version, in the order of discovery.
pub fn of_group_version(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    all().iter().copied().filter(move |r| r.group == group && r.version == version)
}

/// A group of the API.
#[derive(Debug)]
pub struct Group {
    /// Empty for the core group.
    pub name: &'static str,
    /// The preferred one first.
    pub versions: Vec<&'static str>,
}

struct Catalogue {
    all: Vec<&'static Resource>,
    by_plural: Vec<&'static Resource>,
    by_kind: Vec<&'static Resource>,
    groups: Vec<Group>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let entries = [
        core::entries(),
        extension::api_services(),
        workload::apps(),
        events::entries(),
        review::authentication(),
        review::authorization(),
        autoscaling::entries(),
        workload::batch(),
        cluster::certificates(),
        cluster::networking(),
        workload::policy(),
        cluster::rbac(),
        cluster::storage(),
        extension::admission(),
        extension::definitions(),
        workload::scheduling(),
        cluster::coordination(),
        cluster::node(),
        cluster::discovery(),
        cluster::resource(),
        cluster::flow_control(),
        metrics::entries(),
        patterns::gateway(),
        patterns::patterns(),
    ];
    let all: Vec<&'static Resource> =
        entries.into_iter().flatten().map(|entry| &*Box::leak(Box::new(entry.finish()))).collect();
    let mut by_plural = all.clone();
    by_plural.sort_by_key(|r| (r.plural, r.group, r.version));
    let mut by_kind = all.clone();
    by_kind.sort_by_key(|r| (r.kind, r.group, r.version));
    let mut groups: Vec<Group> = Vec::new();
    for resource in &all {
        match groups.iter_mut().find(|g| g.name == resource.group) {
            None => groups.push(Group { name: resource.group, versions: vec![resource.version] }),
            Some(group) if !group.versions.contains(&resource.version) => group.versions.push(resource.version),
            Some(_) => {}
        }
    }
    Catalogue { all, by_plural, by_kind, groups }
});
