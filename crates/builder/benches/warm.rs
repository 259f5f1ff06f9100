//! How long builds take, printed and never judged: ten steps cold, ten steps warm, and beside them
//! `buildah bud --layers` where it is installed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use builder::{BuildRequest, Builder, Context, Source};
use engine::content::Content;
use engine::{Engine, EngineConfig, ShimCommand};

const TEN: &str = "FROM base\nENV A=1\nWORKDIR /app\nCOPY a .\nRUN echo 1 > one\nCOPY d d\nRUN echo 2 > two\nLABEL k=v\nRUN echo 3 > three\nCMD [\"sh\"]\n";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let engine = Engine::open(EngineConfig {
        data_dir: path("engine"),
        run_dir: path("run"),
        cgroup_root: format!("hythe-build-bench-{}", std::process::id()),
        shim: ShimCommand { program: env!("CARGO_BIN_EXE_builder-shim").into(), args: Vec::new() },
    })
    .await
    .expect("opens");
    let content = Content::open(path("content")).expect("opens");
    let base = path("base.tar");
    write_base(&base);
    content.import(&base, Some("base")).expect("imports");
    let context = path("context");
    std::fs::create_dir_all(context.join("d")).expect("makes");
    std::fs::write(context.join("a"), "a").expect("writes");
    for index in 0..200 {
        std::fs::write(context.join(format!("d/{index}")), vec![b'x'; 10_000]).expect("writes");
    }
    let builder = Builder::open(engine.clone(), content, path("builder")).await.expect("opens");
    let build = |no_cache: bool| {
        let request = BuildRequest {
            context: Context::Directory(context.clone()),
            dockerfile: Source::Text(TEN.into()),
            tags: vec!["bench".into()],
            no_cache,
            ..BuildRequest::default()
        };
        let builder = builder.clone();
        async move {
            let begin = Instant::now();
            builder.build(request, Arc::new(|_| ())).await.expect("builds");
            begin.elapsed()
        }
    };
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    for _ in 0..5 {
        cold.push(build(true).await);
    }
    for _ in 0..20 {
        warm.push(build(false).await);
    }
    println!("ten steps, cold: median {:.1} ms", median(&mut cold));
    let ours = median(&mut warm);
    println!("ten steps, warm: median {ours:.1} ms");
    if let Some(theirs) = buildah(&base, &context, directory.path()) {
        println!("buildah bud --layers, warm: median {theirs:.1} ms; ratio {:.3}", ours / theirs);
    }
    engine.purge().await.expect("purges");
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn write_base(path: &Path) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).expect("makes"));
    for name in ["bin/sh", "bin/echo"] {
        archive.append_path_with_name("/bin/busybox", name).expect("busybox-static is installed");
    }
    archive.finish().expect("packs");
}

/// The same with a store of its own; `None` where buildah is missing or can't build here.
fn buildah(base: &Path, context: &Path, directory: &Path) -> Option<f64> {
    let run = |args: &[&str]| {
        let output = std::process::Command::new("buildah")
            .args(["--root", directory.join("buildah").to_str()?, "--runroot", directory.join("buildah-run").to_str()?])
            .args(["--storage-driver", "vfs"])
            .args(args)
            .output()
            .ok()?;
        if !output.status.success() {
            println!("buildah: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success().then_some(())
    };
    let file = directory.join("Base");
    std::fs::write(&file, "FROM scratch\nADD base.tar /\n").ok()?;
    run(&["bud", "-q", "-f", file.to_str()?, "-t", "base", base.parent()?.to_str()?])?;
    let file = directory.join("Ten");
    std::fs::write(&file, TEN.replace("FROM base", "FROM localhost/base")).ok()?;
    let mut times = Vec::new();
    for _ in 0..6 {
        let begin = Instant::now();
        run(&["bud", "-q", "--layers", "--isolation", "chroot", "-f", file.to_str()?, "-t", "ten", context.to_str()?])?;
        times.push(begin.elapsed());
    }
    // The first one was cold.
    Some(median(&mut times[1..]))
}
