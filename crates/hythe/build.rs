//! Embeds the small binary of the pattern containers, compressed, if the build names it: `HYTHE_PATTERNS=FILE`.
//! Without it the running program stands in for it.

use std::{
    env,
    fs::{self, File},
    io::Read,
    path::Path,
};

#[path = "../pattern-containers/src/loaded.rs"]
mod loaded;

const LEVEL: i32 = 19;

fn main() {
    println!("cargo::rerun-if-env-changed=HYTHE_PATTERNS");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("patterns.zst");
    let compressed = match env::var("HYTHE_PATTERNS") {
        Ok(file) if !file.is_empty() => {
            println!("cargo::rerun-if-changed={file}");
            println!("cargo::rerun-if-changed=../pattern-containers/src/loaded.rs");
            // Its symbols stay with the build: nobody looks for them in a container.
            let mut bytes = Vec::new();
            File::open(&file)
                .and_then(|program| loaded::loaded_part(program)?.1.read_to_end(&mut bytes))
                .unwrap_or_else(|error| panic!("HYTHE_PATTERNS={file}: {error}"));
            zstd::bulk::compress(&bytes, LEVEL).expect("memory can be compressed")
        }
        _ => Vec::new(),
    };
    fs::write(&out, compressed).expect("OUT_DIR is writable");
}
