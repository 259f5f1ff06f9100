//! A program that is a shim and nothing else, for this crate's tests. (`hythe shim` is the one users run.)

fn main() {
    engine::shim::main(std::env::args_os().skip(1).collect())
}
