//! Where the hash of a key leads: points on a ring, slots of a table, or chance.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hash::md5_words;

/// Points on the ring for a member of average weight (ketama), or of weight 1 (nginx).
pub const POINTS_PER_MEMBER: u32 = 160;

/// Longest `name-index` that twemproxy hashes, in bytes; the rest is cut off.
const LONGEST_POINT_NAME: usize = 272;

/// A member of a pool: a server, a replica, a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is known by on the ring. See [`twemproxy_name`](crate::twemproxy_name) for twemproxy's own choice; nginx
    /// takes the address as it is written in `server`.
    pub name: String,
    /// Its share among the others; a member of weight 0 gets no keys.
    pub weight: u32,
}

impl Member {
    /// A member of this name and weight.
    pub fn new(name: impl Into<String>, weight: u32) -> Member {
        Member { name: name.into(), weight }
    }
}

/// How members are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// libmemcached's and twemproxy's consistent hashing: MD5 of `name-index`, four points a digest, 160 points a member
    /// scaled by its share of the weight.
    #[default]
    Ketama,
    /// nginx's `hash … consistent`: chained CRC-32 of host, NUL and port, 160 points for each unit of weight. Keys are
    /// hashed with [`Hash::Crc32a`](crate::Hash::Crc32a).
    NginxConsistent,
    /// The hash modulo the sum of weights, as twemproxy's `modula`: even, but nearly every key moves when a member comes or goes.
    Modula,
    /// Any member, whatever the key; the caller passes a random number for a hash.
    Random,
}

/// No placement has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPlacement(pub String);

/// Members in their places. Built once per change of membership, then only read.
#[derive(Clone, Debug)]
pub struct Ring {
    placement: Placement,
    /// Sorted by value for the consistent placements; one for each unit of weight for modula, one for each member for random.
    points: Box<[Point]>,
    members: usize,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    value: u32,
    member: u32,
}

impl Ring {
    /// Places all members.
    #[must_use]
    pub fn new(placement: Placement, members: &[Member]) -> Ring {
        Ring::of_live(placement, members, |_| true)
    }

    /// Places the members for which `live` holds; indices stay those of `members`. twemproxy places anew when it ejects a
    /// server, and the shares of weight are then those among the rest.
    #[must_use]
    pub fn of_live(placement: Placement, members: &[Member], live: impl Fn(usize) -> bool) -> Ring {
        let mut placed: Vec<usize> =
            (0..members.len()).filter(|&index| members[index].weight > 0 && live(index)).collect();
        if placement != Placement::NginxConsistent {
            // twemproxy sorts its servers by name, shorter ones first; this decides modula's slots and colliding points.
            let order = |index: usize| (members[index].name.len(), members[index].name.as_bytes());
            placed.sort_by(|&one, &other| order(one).cmp(&order(other)));
        }
        let points = match placement {
            Placement::Ketama => ketama(members, &placed),
            Placement::NginxConsistent => nginx(members, &placed),
            Placement::Modula => placed
                .iter()
                .flat_map(|&index| std::iter::repeat_n(point(0, index), members[index].weight as usize))
                .collect(),
            Placement::Random => placed.iter().map(|&index| point(0, index)).collect(),
        };
        Ring { placement, points: points.into_boxed_slice(), members: placed.len() }
    }

    /// The index of the member that a key of this hash belongs to; `None` when there are no members.
    #[must_use]
    pub fn lookup(&self, hash: u32) -> Option<usize> {
        self.points.get(self.position(hash)?).map(|point| point.member as usize)
    }

    /// The members in the order in which they should be tried for this hash: its own, then the owners of the following
    /// points, each once. So a key whose member is down goes where it would go without that member.
    pub fn candidates(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let start = self.position(hash).unwrap_or(0);
        let (after, before) = (&self.points[start..], &self.points[..start]);
        let mut seen = Vec::with_capacity(self.members);
        after
            .iter()
            .chain(before)
            .map(|point| point.member as usize)
            .filter(move |member| {
                let new = !seen.contains(member);
                if new {
                    seen.push(*member);
                }
                new
            })
            .take(self.members)
    }

    /// How many members have a place.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many points they have together.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// How its members were placed.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The index of the point that owns `hash`.
    fn position(&self, hash: u32) -> Option<usize> {
        if self.points.is_empty() {
            return None;
        }
        Some(match self.placement {
            Placement::Ketama | Placement::NginxConsistent => {
                let first = self.points.partition_point(|point| point.value < hash);
                if first == self.points.len() { 0 } else { first }
            }
            Placement::Modula | Placement::Random => hash as usize % self.points.len(),
        })
    }
}

fn point(value: u32, member: usize) -> Point {
    Point { value, member: member as u32 }
}

fn ketama(members: &[Member], placed: &[usize]) -> Vec<Point> {
    let total: u32 = placed.iter().fold(0, |sum, &index| sum.wrapping_add(members[index].weight));
    let mut points = Vec::with_capacity(placed.len() * POINTS_PER_MEMBER as usize);
    for &index in placed {
        let member = &members[index];
        for digest in 0..ketama_digests(member.weight, total, placed.len()) {
            let mut name = format!("{}-{digest}", member.name).into_bytes();
            name.truncate(LONGEST_POINT_NAME);
            points.extend(md5_words(&name).map(|value| point(value, index)));
        }
    }
    points.sort_by_key(|point| point.value);
    points
}

/// How many digests (of four points each) a member gets: a quarter of 160 times its share of the weight times the number
/// of members, in C's mixture of single and double precision, whose roundings decide the last digest.
fn ketama_digests(weight: u32, total: u32, members: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let digests = share * POINTS_PER_MEMBER as f32 / 4.0 * members as f32;
    ((f64::from(digests) + 0.000_000_000_1) as f32).floor() as u32
}

fn nginx(members: &[Member], placed: &[usize]) -> Vec<Point> {
    let mut points = Vec::new();
    for &index in placed {
        let member = &members[index];
        let (host, port) = nginx_host_and_port(&member.name);
        let mut base = crc32fast::Hasher::new();
        base.update(host);
        base.update(&[0]);
        base.update(port);
        let mut previous = 0u32;
        for _ in 0..u64::from(member.weight) * u64::from(POINTS_PER_MEMBER) {
            let mut hasher = base.clone();
            hasher.update(&previous.to_le_bytes());
            previous = hasher.finalize();
            points.push(point(previous, index));
        }
    }
    points.sort_by_key(|point| point.value);
    points.dedup_by_key(|point| point.value);
    points
}

/// nginx's reading of a server's address: what follows the last colon is a port when it is all digits.
fn nginx_host_and_port(name: &str) -> (&[u8], &[u8]) {
    let bytes = name.as_bytes();
    if bytes.len() >= 5 && bytes[..5].eq_ignore_ascii_case(b"unix:") {
        return (&bytes[5..], &[]);
    }
    match bytes.iter().rposition(|&byte| byte == b':') {
        Some(colon) if bytes[colon + 1..].iter().all(u8::is_ascii_digit) => (&bytes[..colon], &bytes[colon + 1..]),
        _ => (bytes, &[]),
    }
}

impl Placement {
    /// All of them.
    pub const ALL: [Placement; 4] =
        [Placement::Ketama, Placement::NginxConsistent, Placement::Modula, Placement::Random];

    /// Its name in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Placement::Ketama => "ketama",
            Placement::NginxConsistent => "nginx_consistent",
            Placement::Modula => "modula",
            Placement::Random => "random",
        }
    }
}

impl FromStr for Placement {
    type Err = UnknownPlacement;

    fn from_str(name: &str) -> Result<Placement, UnknownPlacement> {
        Placement::ALL
            .into_iter()
            .find(|placement| placement.name() == name)
            .ok_or_else(|| UnknownPlacement(name.to_owned()))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for UnknownPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Placement::ALL.iter().map(|placement| placement.name()).collect();
        write!(f, "no distribution is called {:?}; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownPlacement {}
