//! The engine alone, with the Docker API on a socket: `engine --data-dir DIR --socket PATH [--name NAME] [--bridge CIDR]`.
//! SIGTERM ends it and leaves the containers running; SIGINT removes everything it made on the host.

use std::path::PathBuf;

use docker_api::{Config, DockerApi, NetworkSettings};
use engine::content::{Content, PullOptions};
use engine::{Engine, EngineConfig, ShimCommand};
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == "shim") {
        engine::shim::main(args.skip(1).collect());
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (mut data_dir, mut socket) = (PathBuf::from("/tmp/hythe-engine"), None);
    let mut network = NetworkSettings::default();
    let mut remapped = false;
    while let Some(option) = args.next() {
        let value = args.next().expect("every option has a value");
        let text = value.to_string_lossy().into_owned();
        match option.to_str() {
            Some("--data-dir") => data_dir = value.into(),
            Some("--socket") => socket = Some(PathBuf::from(value)),
            Some("--name") => network.name = text,
            Some("--bridge") => network.bridge = text.parse().expect("an address range"),
            Some("--pool") => network.pools = vec![(text.parse().expect("an address range"), 28)],
            Some("--userns-remap") => remapped = text == "default",
            other => panic!("unknown option {other:?}"),
        }
    }
    let socket = socket.unwrap_or_else(|| data_dir.join("docker.sock"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(data_dir, socket, network, remapped));
    // Threads that still copy output are not waited for.
    runtime.shutdown_background();
}

async fn run(data_dir: PathBuf, socket: PathBuf, network: NetworkSettings, remapped: bool) {
    std::fs::create_dir_all(&data_dir).expect("a data directory");
    let engine = Engine::open(EngineConfig {
        data_dir: data_dir.join("engine"),
        run_dir: data_dir.join("run"),
        cgroup_root: format!("hythe-{}", network.name),
        shim: ShimCommand::current_exe(),
    })
    .await
    .expect("an engine");
    engine.adopt().await.expect("what the last one left");
    let content = Content::open(data_dir.join("content")).expect("a content store");
    let builder =
        builder::Builder::open(engine.clone(), content.clone(), data_dir.join("builder")).await.expect("a builder");
    let api = DockerApi::open(Config {
        data_dir: data_dir.join("docker"),
        run_dir: data_dir.join("run"),
        engine: engine.clone(),
        user_ids: remapped.then(|| {
            let ids = engine::IdRanges::open(data_dir.join("ids")).expect("a directory for ids");
            ids.range("_docker").expect("ids")
        }),
        content,
        network,
        builder: Some(builder),
        registries: PullOptions::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
    .await
    .expect("the API");
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    eprintln!("serving on unix://{}", socket.display());
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals");
    let mut terminate = signal(SignalKind::terminate()).expect("signals");
    tokio::select! {
        result = api.serve(listener) => result.expect("the listener works"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {
            api.purge().await.expect("everything goes");
            engine.purge().await.expect("the cgroups go");
        }
    }
    let _ = std::fs::remove_file(&socket);
}
