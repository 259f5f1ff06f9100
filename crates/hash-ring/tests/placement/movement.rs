//! How many keys move when the membership changes.

use hash_ring::{Hash, Member, Placement, Ring};

const KEYS: u32 = 20_000;

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|index| Member::new(format!("db-{index}.db.default.svc:6379"), 1)).collect()
}

fn owners(ring: &Ring, hash: Hash) -> Vec<usize> {
    (0..KEYS).map(|key| ring.lookup(hash.of(format!("user:{key}").as_bytes())).expect("not empty")).collect()
}

/// The share of keys whose owner changes from one ring to the other.
fn moved(one: &Ring, other: &Ring, hash: Hash) -> f64 {
    let moved = owners(one, hash).iter().zip(owners(other, hash)).filter(|&(&before, after)| before != after).count();
    moved as f64 / f64::from(KEYS)
}

#[test]
fn an_eleventh_member_takes_about_a_tenth_of_the_keys_and_only_for_itself() {
    for (placement, hash) in [(Placement::Ketama, Hash::Md5), (Placement::NginxConsistent, Hash::Crc32a)] {
        let (ten, eleven) = (Ring::new(placement, &members(10)), Ring::new(placement, &members(11)));
        let share = moved(&ten, &eleven, hash);
        assert!((0.05..=0.12).contains(&share), "{placement}: {share} of the keys moved");
        for (before, after) in owners(&ten, hash).iter().zip(owners(&eleven, hash)) {
            assert!(*before == after || after == 10, "{placement}: a key moved between old members");
        }
    }
}

#[test]
fn modula_moves_ten_keys_of_eleven() {
    let share =
        moved(&Ring::new(Placement::Modula, &members(10)), &Ring::new(Placement::Modula, &members(11)), Hash::Md5);
    assert!((0.89..=0.93).contains(&share), "{share} of the keys moved");
}

#[test]
fn an_ejected_members_keys_go_where_they_go_without_it_and_come_back() {
    let pool = members(10);
    let all = Ring::new(Placement::Ketama, &pool);
    let without = Ring::of_live(Placement::Ketama, &pool, |index| index != 3);
    let hash = Hash::Fnv1a64;
    for key in 0..KEYS {
        let hash = hash.of(format!("user:{key}").as_bytes());
        let (before, after) = (all.lookup(hash), without.lookup(hash));
        assert_ne!(after, Some(3));
        assert!(before == after || before == Some(3));
        let mut candidates = all.candidates(hash);
        assert_eq!(candidates.next(), before);
        if before == Some(3) {
            assert_eq!(candidates.next(), after);
        }
    }
}

#[test]
fn candidates_name_every_member_once() {
    for placement in Placement::ALL {
        let ring = Ring::new(placement, &members(7));
        let mut order: Vec<_> = ring.candidates(Hash::Md5.of(b"key")).collect();
        assert_eq!(order.first().copied(), ring.lookup(Hash::Md5.of(b"key")), "{placement}");
        order.sort_unstable();
        assert_eq!(order, (0..7).collect::<Vec<_>>(), "{placement}");
    }
}

#[test]
fn an_empty_pool_owns_nothing() {
    for placement in Placement::ALL {
        let empty = Ring::new(placement, &[]);
        assert_eq!(empty.lookup(7), None);
        assert_eq!(empty.candidates(7).count(), 0);
        let weightless = Ring::new(placement, &[Member::new("a", 0)]);
        assert_eq!(weightless.lookup(7), None, "{placement}");
    }
}

#[test]
fn weights_are_shares_of_the_keys() {
    let pool = [Member::new("small", 1), Member::new("large", 3)];
    for (placement, hash) in
        [(Placement::Ketama, Hash::Md5), (Placement::NginxConsistent, Hash::Crc32a), (Placement::Modula, Hash::Md5)]
    {
        let owners = owners(&Ring::new(placement, &pool), hash);
        let share = owners.iter().filter(|&&owner| owner == 1).count() as f64 / f64::from(KEYS);
        assert!((0.68..=0.82).contains(&share), "{placement}: {share}");
    }
}
