//! A registry alone, for tests and benchmarks: `registry-serve DIRECTORY [ADDRESS [UPSTREAM]]`. Prints its address.

use std::io::Write;

use engine::content::Content;
use registry::{Config, Mirror, Registry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: registry-serve DIRECTORY [ADDRESS [UPSTREAM]]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let mut config = Config::new(Content::open(directory)?);
    config.mirror = arguments.next().map(|upstream| Mirror::at(&upstream));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        Registry::open(config)?.serve(listener, None).await?;
        Ok(())
    })
}
