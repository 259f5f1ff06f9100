//! The shim that this crate's tests and benches start. (`hythe shim` is the one users run.)

fn main() {
    engine::shim::main(std::env::args_os().skip(1).collect())
}
