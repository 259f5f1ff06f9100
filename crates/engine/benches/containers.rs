//! How fast sandboxes and containers come and go, and what an idle shim weighs.
//!
//! Needs root and busybox-static. `cargo bench -p engine --bench containers [-- SPACING_MS]`. Prints milliseconds, medians first.
//! For comparison (same size of machine): `runc run` of a static `echo`, 25–29 ms; containerd's shim, 4.4 MB PSS.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::{ContainerSpec, Engine, EngineConfig, LogSpec, Rootfs, SandboxSpec, Seccomp, ShimCommand};

const ROUNDS: usize = 30;
const BURST: usize = 60;

#[tokio::main]
async fn main() {
    let spacing = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(0);
    let directory = tempfile::tempdir().expect("a directory");
    image(&directory.path().join("image"));
    let engine = Engine::open(EngineConfig {
        data_dir: directory.path().join("data"),
        run_dir: directory.path().join("run"),
        cgroup_root: format!("hythe-bench-{}", std::process::id()),
        shim: ShimCommand { program: env!("CARGO_BIN_EXE_engine-shim").into(), args: Vec::new() },
    })
    .await
    .expect("opens");
    let mut times: [Vec<f64>; 6] = Default::default();
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(spacing)).await;
        for (samples, time) in times.iter_mut().zip(one(&engine, directory.path(), round).await) {
            samples.push(time);
        }
    }
    println!("{ROUNDS} rounds, {spacing} ms apart");
    for (name, samples) in ["sandbox", "create", "start", "exec true", "remove", "destroy"].into_iter().zip(&mut times)
    {
        samples.sort_by(f64::total_cmp);
        println!("  {name:<10} p50 {:>7.2}  p90 {:>7.2}", samples[ROUNDS / 2], samples[ROUNDS * 9 / 10]);
    }
    burst(&engine, directory.path()).await;
    engine.purge().await.expect("purges");
}

fn container(directory: &Path, name: &str) -> ContainerSpec {
    ContainerSpec {
        id: "c".into(),
        rootfs: Rootfs::Overlay {
            lower: vec![directory.join("image")],
            upper: directory.join(format!("layers/{name}/upper")),
            work: directory.join(format!("layers/{name}/work")),
            volatile: false,
        },
        args: ["/bin/sleep", "1000"].map(String::from).to_vec(),
        seccomp: Seccomp::RuntimeDefault,
        log: Some(LogSpec { path: directory.join(format!("{name}.log")), max_size: 10 << 20, max_files: 5 }),
        ..ContainerSpec::default()
    }
}

async fn one(engine: &Engine, directory: &Path, round: usize) -> [f64; 6] {
    let mut last = Instant::now();
    let mut lap = || {
        let time = last.elapsed().as_secs_f64() * 1000.0;
        last = Instant::now();
        time
    };
    let name = format!("round-{round}");
    let spec = SandboxSpec { id: name.clone(), hostname: Some("bench".into()), ..SandboxSpec::default() };
    let sandbox = engine.create_sandbox(spec).await.expect("a sandbox");
    let made = lap();
    sandbox.create_container(container(directory, &name)).await.expect("creates");
    let created = lap();
    sandbox.start("c").await.expect("starts");
    let started = lap();
    sandbox.exec_sync("c", vec!["/bin/true".into()], Duration::from_secs(10)).await.expect("runs");
    let executed = lap();
    sandbox.remove_container("c").await.expect("removes");
    let removed = lap();
    sandbox.destroy().await.expect("destroys");
    [made, created, started, executed, removed, lap()]
}

async fn burst(engine: &Engine, directory: &Path) {
    let begun = Instant::now();
    let starting = (0..BURST).map(|number| {
        let (engine, directory) = (engine.clone(), directory.to_owned());
        tokio::spawn(async move {
            let name = format!("burst-{number}");
            let spec = SandboxSpec { id: name.clone(), hostname: Some("bench".into()), ..SandboxSpec::default() };
            let sandbox = engine.create_sandbox(spec).await.expect("a sandbox");
            sandbox.create_container(container(&directory, &name)).await.expect("creates");
            sandbox.start("c").await.expect("starts");
            sandbox
        })
    });
    let sandboxes: Vec<_> = futures::future::join_all(starting.collect::<Vec<_>>()).await;
    let sandboxes: Vec<_> = sandboxes.into_iter().map(|sandbox| sandbox.expect("no panic")).collect();
    let seconds = begun.elapsed().as_secs_f64();
    println!("burst of {BURST}: {:.0} a second", BURST as f64 / seconds);
    let pids = sandboxes.iter().filter_map(|sandbox| sandbox.pid());
    let memory: Vec<(u64, u64)> = pids.map(memory).collect();
    let mean = |pick: fn(&(u64, u64)) -> u64| memory.iter().map(pick).sum::<u64>() / memory.len() as u64;
    println!("idle shim: {} kB PSS, {} kB private", mean(|m| m.0), mean(|m| m.1));
    let begun = Instant::now();
    futures::future::join_all(sandboxes.iter().map(|sandbox| sandbox.destroy())).await;
    println!("destroying them: {:.0} a second", BURST as f64 / begun.elapsed().as_secs_f64());
}

/// Proportional and private memory of a process, in kB.
fn memory(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("reads");
    let field = |name: &str| -> u64 {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    (field("Pss:"), field("Private_Clean:") + field("Private_Dirty:"))
}

fn image(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(directory)).expect("makes");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for program in ["sleep", "true"] {
        symlink("busybox", root.join("bin").join(program)).expect("links");
    }
}
