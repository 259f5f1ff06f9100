//! Turns the Kubernetes schema into what the crate needs of it: a table of types in static memory
//! (`types.rs`) and the described definitions for OpenAPI (`definitions.deflate`).
//!
//! The schema comes from the types of `k8s-openapi`, what it lacks (how lists and maps merge, defaults
//! of key fields) from `src/schema/merge.txt`, the numbers of protobuf from `src/schema/wire.txt`. None of this is linked into the crate itself.

mod declared;
mod definitions;
mod facts;
mod metrics;
mod roots;
mod table;
mod wire;

use std::{env, fs, path::Path};

fn main() {
    for path in ["build", "src/schema/merge.txt", "src/schema/wire.txt", "src/catalogue", "src/openapi"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let facts = facts::Facts::parse(&fs::read_to_string("src/schema/merge.txt").expect("merge.txt is in the crate"));
    let wire = wire::Wire::parse(&fs::read_to_string("src/schema/wire.txt").expect("wire.txt is in the crate"));
    let schema = roots::definitions();
    facts.must_apply_to(&schema);

    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).expect("OUT_DIR is writable");
    write("types.rs", table::render(&schema, &facts, &wire).as_bytes());
    wire.must_apply_to(&schema);
    let described = definitions::render(&schema, &facts);
    write("definitions.deflate", &definitions::deflate(described.as_bytes()));
    write("hash.rs", format!("{:#018x}", definitions::hash(described.as_bytes())).as_bytes());
}
