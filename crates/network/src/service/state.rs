//! The model of the kernel's maps: which Service put what there, and what a change adds and deletes.
//!
//! Above 500 lines: every map's bookkeeping shares the one model, and a change touches all of it in one pass.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::conntrack::Cut;
use crate::hash::fnv1a32;
use crate::nft::{Batch, ElementData, Session};
use crate::service::layout::{
    self, AFFINITY, ENDPOINTS, FRONTENDS, HAIRPIN, Layout, MEMBERS, VARIANTS, Variant, endpoint_from_value,
    endpoint_value, frontend_key, frontend_value, hairpin_key, member_key, slot_from_key, slot_key,
};
use crate::service::plan::{Frontend, GroupName, Plan, Scope, Target, Zone, reslot};
use crate::service::{Protocol, ServiceId};

/// Whose an element is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Service(ServiceId),
    /// The host ports of the pod with this id.
    Pod(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Service(id) => write!(f, "Service {id}"),
            Owner::Pod(id) => write!(f, "pod {id}"),
        }
    }
}

/// What one owner has in the maps.
#[derive(Default)]
struct Entry {
    frontends: Vec<(Frontend, Value)>,
    groups: Vec<Group>,
    draining: Vec<(GroupName, SocketAddrV4)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Value {
    variant: Variant,
    group: u32,
}

struct Group {
    name: GroupName,
    id: u32,
    slots: Vec<SocketAddrV4>,
    /// Whether the endpoints are in `members` too (for affinity).
    members: bool,
}

/// What an earlier process left in the kernel and nobody has claimed yet.
#[derive(Default)]
struct Heritage {
    frontends: HashMap<Vec<u8>, Vec<u8>>,
    slots: HashMap<u32, HashMap<u32, SocketAddrV4>>,
    members: HashMap<u32, HashSet<SocketAddrV4>>,
    hairpin: HashSet<Vec<u8>>,
}

/// Variants nobody uses that may stay for the next scaling up.
const SPARE_VARIANTS: usize = 64;

/// The model. Methods that take a batch append what brings the kernel from the old to the new state.
pub(crate) struct State {
    layout: Layout,
    entries: HashMap<Owner, Entry>,
    /// Plans that did not get all their frontends because another owner has them.
    contested: HashMap<Owner, Plan>,
    holders: HashMap<Frontend, Owner>,
    groups: HashSet<u32>,
    /// How many slots hold each pod address.
    hairpin: HashMap<Ipv4Addr, u32>,
    /// Variants in the kernel and how many frontends use them.
    variants: HashMap<Variant, u32>,
    affinity: bool,
    heritage: Heritage,
}

impl State {
    pub(crate) fn new(layout: Layout) -> State {
        State {
            layout,
            entries: HashMap::new(),
            contested: HashMap::new(),
            holders: HashMap::new(),
            groups: HashSet::new(),
            hairpin: HashMap::new(),
            variants: HashMap::new(),
            affinity: false,
            heritage: Heritage::default(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn batch(&self) -> Batch {
        Batch::new(&self.layout.table)
    }

    /// Learns what the kernel's table holds, so that only differences need to be sent.
    pub(crate) fn adopt(&mut self, session: &mut Session) -> io::Result<()> {
        let table = &self.layout.table;
        let mut heritage = Heritage::default();
        heritage.frontends.extend(session.elements(table, FRONTENDS)?);
        for (key, value) in session.elements(table, ENDPOINTS)? {
            if let (Some((group, slot)), Some(endpoint)) = (slot_from_key(&key), endpoint_from_value(&value)) {
                heritage.slots.entry(group).or_default().insert(slot, endpoint);
            }
        }
        for (key, _) in session.elements(table, MEMBERS)? {
            let group = key.get(..4).and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)));
            if let (Some(group), Some(endpoint)) = (group, key.get(4..).and_then(endpoint_from_value)) {
                heritage.members.entry(group).or_default().insert(endpoint);
            }
        }
        heritage.hairpin.extend(session.elements(table, HAIRPIN)?.into_iter().map(|(key, _)| key));
        let variants = session.elements(table, VARIANTS)?;
        self.affinity = match session.elements(table, AFFINITY) {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
            Err(error) => return Err(error),
        };
        self.variants = variants.iter().filter_map(|(key, _)| Some((Variant::from_key(key)?, 0))).collect();
        self.heritage = heritage;
        Ok(())
    }

    /// The whole table from nothing.
    pub(crate) fn load(&mut self, batch: &mut Batch) {
        self.heritage = Heritage::default();
        self.layout.create(batch);
        self.variants.retain(|_, users| *users > 0);
        self.affinity &= self.variants.keys().any(|variant| needs_affinity(*variant));
        if self.affinity {
            layout::add_affinity(batch);
        }
        for variant in self.variants.keys().filter(|variant| matches!(variant, Variant::Pick { .. })) {
            layout::add_variant(batch, *variant);
        }
        for variant in [Variant::Refuse, Variant::Drop] {
            self.variants.entry(variant).or_insert(0);
        }
        for entry in self.entries.values() {
            for (frontend, value) in &entry.frontends {
                add_frontend(batch, frontend, *value);
            }
            for group in &entry.groups {
                for (slot, endpoint) in (0..).zip(&group.slots) {
                    add_slot(batch, group.id, slot, *endpoint);
                    if group.members {
                        batch.add_element(MEMBERS, &member_key(group.id, *endpoint), ElementData::Nothing);
                    }
                }
            }
        }
        for address in self.hairpin.keys() {
            batch.add_element(HAIRPIN, &hairpin_key(*address), ElementData::Nothing);
        }
    }

    /// The first frontend of `plan` that belongs to another owner.
    pub(crate) fn conflict(&self, owner: &Owner, plan: &Plan) -> Option<(Frontend, Owner)> {
        plan.frontends.iter().find_map(|(frontend, _)| {
            let holder = self.holders.get(frontend).filter(|holder| *holder != owner)?;
            Some((*frontend, holder.clone()))
        })
    }

    /// Replaces what `owner` has by `plan`; `None` removes it.
    pub(crate) fn put(&mut self, batch: &mut Batch, cuts: &mut Vec<Cut>, owner: &Owner, plan: Option<Plan>) {
        if self.put_one(batch, cuts, owner, plan) {
            for (waiting, plan) in std::mem::take(&mut self.contested) {
                self.put_one(batch, cuts, &waiting, Some(plan));
            }
        }
    }

    /// Replaces what all Services have; host ports stay. What nobody claims any more leaves the kernel.
    pub(crate) fn replace_services(&mut self, batch: &mut Batch, cuts: &mut Vec<Cut>, plans: HashMap<Owner, Plan>) {
        let gone: Vec<Owner> = self
            .entries
            .keys()
            .filter(|owner| matches!(owner, Owner::Service(_)) && !plans.contains_key(owner))
            .cloned()
            .collect();
        for owner in gone {
            self.put(batch, cuts, &owner, None);
        }
        for (owner, plan) in plans {
            self.put(batch, cuts, &owner, Some(plan));
        }
        let heritage = std::mem::take(&mut self.heritage);
        for key in heritage.frontends.keys() {
            batch.delete_element(FRONTENDS, key);
        }
        for (group, slots) in heritage.slots {
            for slot in slots.into_keys() {
                batch.delete_element(ENDPOINTS, &slot_key(group, slot));
            }
        }
        for (group, endpoints) in heritage.members {
            for endpoint in endpoints {
                batch.delete_element(MEMBERS, &member_key(group, endpoint));
            }
        }
        for key in &heritage.hairpin {
            batch.delete_element(HAIRPIN, key);
        }
    }

    /// Deletes unused variants if there are many. First in a batch: packets on their way may still use what the batch
    /// itself lets go. And not while frontends of an earlier process may use them.
    pub(crate) fn tidy(&mut self, batch: &mut Batch) {
        if !self.heritage.frontends.is_empty() {
            return;
        }
        let spare = |variant: &Variant, users: &u32| *users == 0 && matches!(variant, Variant::Pick { .. });
        if self.variants.iter().filter(|(variant, users)| spare(variant, users)).count() > SPARE_VARIANTS {
            self.variants.retain(|variant, users| {
                let unused = spare(variant, users);
                if unused {
                    layout::delete_variant(batch, *variant);
                }
                !unused
            });
        }
    }

    /// Returns whether a frontend became free that others may wait for.
    fn put_one(&mut self, batch: &mut Batch, cuts: &mut Vec<Cut>, owner: &Owner, plan: Option<Plan>) -> bool {
        self.contested.remove(owner);
        let old = self.entries.remove(owner).unwrap_or_default();
        let remains = plan.is_some();
        let plan = plan.unwrap_or_default();
        let mut entry = Entry { draining: plan.draining.clone(), ..Entry::default() };

        if plan.affinity != 0 && !self.affinity {
            layout::add_affinity(batch);
            self.affinity = true;
        }
        for wanted in &plan.groups {
            let before = old.groups.iter().find(|group| group.name == wanted.name);
            let group = self.put_group(batch, owner, wanted.name, &wanted.endpoints, plan.affinity != 0, before);
            entry.groups.push(group);
        }
        for group in &old.groups {
            if !entry.groups.iter().any(|kept| kept.name == group.name) {
                self.change_slots(batch, group.id, &group.slots, &[], group.members, false);
                self.groups.remove(&group.id);
            }
        }

        let mut lacking = false;
        for (frontend, target) in &plan.frontends {
            if entry.frontends.iter().any(|(placed, _)| placed == frontend) {
                continue;
            }
            let value = value_of(&entry.groups, frontend.zone, *target, plan.affinity);
            match self.holders.get(frontend) {
                Some(holder) if holder != owner => {
                    tracing::warn!(%owner, %holder, ?frontend, "address and port are taken; the first to come keeps them");
                    lacking = true;
                    continue;
                }
                _ => {}
            }
            let before = old.frontends.iter().find(|(placed, _)| placed == frontend).map(|(_, value)| *value);
            self.put_frontend(batch, owner, frontend, value, before);
            entry.frontends.push((*frontend, value));
        }
        let mut freed = false;
        for (frontend, value) in &old.frontends {
            if !entry.frontends.iter().any(|(placed, _)| placed == frontend) {
                batch.delete_element(FRONTENDS, &frontend_key(frontend));
                self.release(value.variant);
                self.holders.remove(frontend);
                freed = true;
            }
        }

        cuts.extend(stale_frontends(&old, &entry));
        if remains {
            cuts.extend(stale_endpoints(&old, &entry));
        }
        if lacking {
            self.contested.insert(owner.clone(), plan);
        }
        if remains {
            self.entries.insert(owner.clone(), entry);
        }
        freed && !self.contested.is_empty()
    }

    fn put_group(
        &mut self,
        batch: &mut Batch,
        owner: &Owner,
        name: GroupName,
        wanted: &[SocketAddrV4],
        members: bool,
        before: Option<&Group>,
    ) -> Group {
        let (id, current, had_members) = match before {
            Some(group) => (group.id, group.slots.clone(), group.members),
            None => {
                let id = self.allocate(owner, name);
                let (current, had_members) = self.inherit(batch, id);
                (id, current, had_members)
            }
        };
        let slots = reslot(&current, wanted);
        self.change_slots(batch, id, &current, &slots, had_members, members);
        Group { name, id, slots, members }
    }

    /// A number for a group: the same after a restart, unless two names collide.
    fn allocate(&mut self, owner: &Owner, name: GroupName) -> u32 {
        let mut id = fnv1a32(format!("{owner} {} {} {:?}", name.protocol, name.port, name.scope).as_bytes());
        while !self.groups.insert(id) {
            id = id.wrapping_add(1);
        }
        id
    }

    /// The slots an earlier process left for this group. Anything but slots 0, 1, 2… with all or none in `members` is
    /// cleared away.
    fn inherit(&mut self, batch: &mut Batch, id: u32) -> (Vec<SocketAddrV4>, bool) {
        let slots = self.heritage.slots.remove(&id).unwrap_or_default();
        let members = self.heritage.members.remove(&id).unwrap_or_default();
        let dense: Vec<SocketAddrV4> = (0..slots.len() as u32).map_while(|slot| slots.get(&slot).copied()).collect();
        let all: HashSet<_> = dense.iter().copied().collect();
        if dense.len() == slots.len() && (members.is_empty() || members == all) {
            for endpoint in &dense {
                self.hairpin_more(batch, *endpoint.ip());
            }
            return (dense, !members.is_empty());
        }
        for slot in slots.into_keys() {
            batch.delete_element(ENDPOINTS, &slot_key(id, slot));
        }
        for endpoint in members {
            batch.delete_element(MEMBERS, &member_key(id, endpoint));
        }
        (Vec::new(), false)
    }

    fn change_slots(
        &mut self,
        batch: &mut Batch,
        id: u32,
        old: &[SocketAddrV4],
        new: &[SocketAddrV4],
        had_members: bool,
        members: bool,
    ) {
        for slot in 0..old.len().max(new.len()) {
            let (before, after) = (old.get(slot), new.get(slot));
            if before == after {
                continue;
            }
            if before.is_some() {
                batch.delete_element(ENDPOINTS, &slot_key(id, slot as u32));
            }
            if let Some(endpoint) = after {
                add_slot(batch, id, slot as u32, *endpoint);
            }
        }
        let (before, after): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
        for endpoint in after.difference(&before) {
            self.hairpin_more(batch, *endpoint.ip());
        }
        for endpoint in before.difference(&after) {
            self.hairpin_less(batch, *endpoint.ip());
        }
        let (before, after) =
            (if had_members { before } else { HashSet::new() }, if members { after } else { HashSet::new() });
        for endpoint in before.difference(&after) {
            batch.delete_element(MEMBERS, &member_key(id, **endpoint));
        }
        for endpoint in after.difference(&before) {
            batch.add_element(MEMBERS, &member_key(id, **endpoint), ElementData::Nothing);
        }
    }

    fn hairpin_more(&mut self, batch: &mut Batch, address: Ipv4Addr) {
        if !self.layout.pods.contains(address.into()) {
            return;
        }
        let count = self.hairpin.entry(address).or_insert(0);
        *count += 1;
        if *count == 1 && !self.heritage.hairpin.remove(&hairpin_key(address)[..]) {
            batch.add_element(HAIRPIN, &hairpin_key(address), ElementData::Nothing);
        }
    }

    fn hairpin_less(&mut self, batch: &mut Batch, address: Ipv4Addr) {
        let Some(count) = self.hairpin.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.hairpin.remove(&address);
            batch.delete_element(HAIRPIN, &hairpin_key(address));
        }
    }

    fn put_frontend(
        &mut self,
        batch: &mut Batch,
        owner: &Owner,
        frontend: &Frontend,
        value: Value,
        before: Option<Value>,
    ) {
        self.acquire(batch, value.variant);
        if let Some(before) = before {
            self.release(before.variant);
        } else {
            self.holders.insert(*frontend, owner.clone());
        }
        let key = frontend_key(frontend);
        let bytes = frontend_value(value.variant, value.group);
        let present = match before {
            Some(before) => Some(frontend_value(before.variant, before.group).to_vec()),
            None => self.heritage.frontends.remove(&key[..]),
        };
        if present.as_deref() == Some(&bytes[..]) {
            return;
        }
        if present.is_some() {
            batch.delete_element(FRONTENDS, &key);
        }
        add_frontend(batch, frontend, value);
    }

    fn acquire(&mut self, batch: &mut Batch, variant: Variant) {
        let users = self.variants.entry(variant).or_insert_with(|| {
            layout::add_variant(batch, variant);
            0
        });
        *users += 1;
    }

    fn release(&mut self, variant: Variant) {
        if let Some(users) = self.variants.get_mut(&variant) {
            *users -= 1;
        }
    }
}

fn needs_affinity(variant: Variant) -> bool {
    matches!(variant, Variant::Pick { affinity, .. } if affinity != 0)
}

fn value_of(groups: &[Group], zone: Zone, target: Target, affinity: u32) -> Value {
    match target {
        Target::Refuse => Value { variant: Variant::Refuse, group: 0 },
        Target::Drop => Value { variant: Variant::Drop, group: 0 },
        Target::Pick { group, masquerade } => {
            let group = groups.iter().find(|candidate| candidate.name == group);
            let group = group.expect("a plan holds every group its frontends name");
            let endpoints = group.slots.len() as u32;
            Value { variant: Variant::Pick { endpoints, zone, masquerade, affinity }, group: group.id }
        }
    }
}

fn add_frontend(batch: &mut Batch, frontend: &Frontend, value: Value) {
    let bytes = frontend_value(value.variant, value.group);
    batch.add_element(FRONTENDS, &frontend_key(frontend), ElementData::Value(&bytes));
}

fn add_slot(batch: &mut Batch, group: u32, slot: u32, endpoint: SocketAddrV4) {
    batch.add_element(ENDPOINTS, &slot_key(group, slot), ElementData::Value(&endpoint_value(endpoint)));
}

/// UDP has no end of connection: flows to an address whose meaning changes would keep the old one for as long as they
/// send. (TCP connections to it go on, as with kube-proxy.)
fn stale_frontends(old: &Entry, new: &Entry) -> Vec<Cut> {
    let udp = |entry: &Entry| -> HashSet<Frontend> {
        let all = entry.frontends.iter().map(|(frontend, _)| *frontend);
        all.filter(|frontend| frontend.protocol == Protocol::Udp).collect()
    };
    let changed = udp(old).symmetric_difference(&udp(new)).copied().collect::<Vec<_>>();
    let cut = |frontend: Frontend| Cut::Frontend {
        protocol: frontend.protocol,
        address: Some(frontend.address).filter(|address| !address.is_unspecified()),
        port: frontend.port,
    };
    changed.into_iter().map(cut).collect()
}

/// Endpoints that are gone. Those that only drain keep their connections, but for UDP, which has none.
fn stale_endpoints(old: &Entry, new: &Entry) -> Vec<Cut> {
    let serves = |entry: &Entry, name: GroupName, endpoint: &SocketAddrV4| {
        entry.groups.iter().any(|group| group.name == name && group.slots.contains(endpoint))
    };
    let drains = |name: GroupName, endpoint: &SocketAddrV4| {
        name.protocol != Protocol::Udp && new.draining.contains(&(name, *endpoint))
    };
    let served = old.groups.iter().filter(|group| group.name.scope == Scope::All);
    let known = served
        .flat_map(|group| group.slots.iter().map(|endpoint| (group.name, *endpoint)))
        .chain(old.draining.iter().copied());
    known
        .filter(|(name, endpoint)| !serves(new, *name, endpoint) && !drains(*name, endpoint))
        .map(|(name, endpoint)| {
            let mut ports: Vec<u16> = old
                .frontends
                .iter()
                .chain(&new.frontends)
                .filter(|(frontend, _)| frontend.protocol == name.protocol)
                .map(|(frontend, _)| frontend.port)
                .collect();
            ports.sort_unstable();
            ports.dedup();
            Cut::Endpoint { protocol: name.protocol, endpoint, ports }
        })
        .collect()
}
