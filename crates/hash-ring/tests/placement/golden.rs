//! The kept tables, which need no peer.

use crate::cases::{Case, Golden};

fn compare(peer: &str, cases: &[Case]) {
    let kept = Golden::of(peer).read();
    assert_eq!(
        kept.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        cases.iter().map(|case| &case.name).collect::<Vec<_>>()
    );
    for ((name, table), case) in kept.iter().zip(cases) {
        assert_eq!(&case.computed(), table, "{peer}: {name}");
    }
}

#[test]
fn keys_go_where_nutcracker_puts_them() {
    compare("nutcracker", &crate::nutcracker::cases());
}

#[test]
fn keys_go_where_nginx_puts_them() {
    compare("nginx", &crate::nginx::cases());
}
