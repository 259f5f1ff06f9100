//! The summary API (`stats/v1alpha1`).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    fill::{self, Fill},
    measure::{Depth, Measured, MeasuredContainer, MeasuredPod},
    process,
};
use crate::{
    agent::Agent,
    node,
    runtime::{Traffic, Usage, traffic},
};

pub(super) fn render(agent: &Agent, measured: &Measured, pods: Option<Usage>, depth: Depth) -> Value {
    let time = measured.at.to_string();
    let context = &agent.context;
    let (all, available) = (context.machine.memory_bytes, node::memory_available().unwrap_or(0));
    let mut of_node = json!({
        "nodeName": context.config.node_name,
        "startTime": node::booted_at().map(|at| at.to_string()),
        "cpu": cpu(agent, measured.at, "", node::cpu_nanoseconds().unwrap_or(0)),
        "memory": {"time": time, "availableBytes": available, "usageBytes": all - available,
            "workingSetBytes": all - available},
    });
    if let (Some(rss), Some((faults, major))) = (node::anonymous_memory(), node::page_faults()) {
        let memory = &mut of_node["memory"];
        (memory["rssBytes"], memory["pageFaults"], memory["majorPageFaults"]) =
            (rss.into(), faults.into(), major.into());
    }
    if let Some((all, free)) = node::swap() {
        of_node["swap"] = json!({"time": time, "swapAvailableBytes": free, "swapUsageBytes": all - free});
    }
    of_node["systemContainers"] = system(agent, measured.at, pods);
    if depth >= Depth::Files {
        let disk = |path: &std::path::Path| fill::whole(path).map(|fill| fs(&time, &fill));
        let images = context.images.directory();
        of_node["fs"] = disk(context.data_dir()).into();
        of_node["runtime"] =
            json!({"imageFs": images.as_deref().and_then(disk), "containerFs": disk(context.data_dir())});
        let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
        of_node["network"] = network(&time, &traffic(&table));
        if let Some((most, now)) = node::processes() {
            of_node["rlimit"] = json!({"time": time, "maxpid": most, "curproc": now});
        }
    }
    let pods: Vec<Value> = measured.pods.iter().map(|p| pod(measured, agent, p, depth)).collect();
    json!({"node": of_node, "pods": pods})
}

/// What is not a pod's: this process, which is the node's agent and its runtime, and all pods together.
fn system(agent: &Agent, at: Timestamp, pods: Option<Usage>) -> Value {
    let time = at.to_string();
    let one = |name: &str, started: Option<Timestamp>, usage: &Usage| {
        json!({
            "name": name, "startTime": started.map(|at| at.to_string()),
            "cpu": cpu(agent, at, &format!("/{name}"), usage.cpu_nanoseconds), "memory": memory(&time, usage),
        })
    };
    let own = process::read().map(|own| {
        let usage = Usage {
            cpu_nanoseconds: own.cpu_nanoseconds,
            memory: own.resident,
            working_set: own.resident,
            rss: own.anonymous,
            page_faults: own.page_faults,
            ..Usage::default()
        };
        one("kubelet", own.started, &usage)
    });
    own.into_iter().chain(pods.map(|usage| one("pods", node::booted_at(), &usage))).collect()
}

fn pod(measured: &Measured, agent: &Agent, pod: &MeasuredPod, depth: Depth) -> Value {
    let time = &measured.at.to_string();
    let meta = &pod.view.pod.metadata;
    let disk = (depth >= Depth::Files).then(|| fill::whole(agent.context.data_dir())).flatten();
    let containers: Vec<Value> =
        pod.containers.iter().map(|c| container(measured, agent, &pod.sandbox, c, disk.as_ref())).collect();
    let mut out = json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": pod.view.pod.status.as_ref().and_then(|s| s.start_time.clone()),
        "containers": containers,
        "cpu": cpu(agent, measured.at, &pod.sandbox, pod.usage.cpu_nanoseconds),
        "memory": memory(time, &pod.usage),
        "swap": {"time": time, "swapUsageBytes": pod.usage.swap},
    });
    if depth < Depth::Files {
        return out;
    }
    if !pod.traffic.is_empty() {
        out["network"] = network(time, &pod.traffic);
    }
    let volumes = pod.volumes.iter().map(|(volume, fill)| {
        let mut stats = fs(time, fill);
        stats["name"] = volume.name.as_str().into();
        if let Some(claim) = &volume.claim {
            stats["pvcRef"] = json!({"name": claim, "namespace": meta.namespace});
        }
        stats
    });
    out["volume"] = volumes.collect();
    if let Some(disk) = disk {
        let local =
            pod.volumes.iter().filter(|(volume, _)| volume.is_local).map(|(_, fill)| (fill.used, fill.inodes_used));
        let local = local.map(|(used, inodes)| (used.unwrap_or(0), inodes.unwrap_or(0)));
        let own = pod.containers.iter().flat_map(|c| [c.root, c.logs]);
        let (used, inodes_used) = local.chain(own).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        out["ephemeral-storage"] = fs(time, &disk.taken(used, inodes_used));
    }
    out["process_stats"] = json!({"process_count": pod.usage.pids});
    out
}

/// Of what `key` names; the node has none.
fn cpu(agent: &Agent, at: Timestamp, key: &str, nanoseconds: u64) -> Value {
    let mut out = json!({"time": at.to_string(), "usageCoreNanoSeconds": nanoseconds});
    if let Some(rate) = agent.context.rates.of(key, at, nanoseconds) {
        out["usageNanoCores"] = rate.into();
    }
    out
}

fn container(
    measured: &Measured,
    agent: &Agent,
    sandbox: &str,
    container: &MeasuredContainer,
    disk: Option<&Fill>,
) -> Value {
    let time = &measured.at.to_string();
    let usage = &container.usage;
    let mut out = json!({
        "name": container.record.name,
        "startTime": container.started().map(|at| at.to_string()),
        "cpu": cpu(agent, measured.at, &format!("{sandbox}/{}", usage.container), usage.cpu_nanoseconds),
        "memory": memory(time, usage),
        "swap": {"time": time, "swapUsageBytes": usage.swap},
    });
    if let Some(disk) = disk {
        let images = agent.context.images.directory().and_then(|path| fill::whole(&path)).unwrap_or(*disk);
        let of = |(used, inodes_used): (u64, u64), on: Fill| fs(time, &on.taken(used, inodes_used));
        out["rootfs"] = of(container.root, images);
        out["logs"] = of(container.logs, *disk);
    }
    out
}

fn memory(time: &str, usage: &Usage) -> Value {
    let mut out = Map::new();
    out.insert("time".into(), time.into());
    if let Some(limit) = usage.memory_limit {
        out.insert("availableBytes".into(), limit.saturating_sub(usage.working_set).into());
    }
    for (name, number) in [
        ("usageBytes", usage.memory),
        ("workingSetBytes", usage.working_set),
        ("rssBytes", usage.rss),
        ("pageFaults", usage.page_faults.0),
        ("majorPageFaults", usage.page_faults.1),
    ] {
        out.insert(name.into(), number.into());
    }
    Value::Object(out)
}

fn fs(time: &str, fill: &Fill) -> Value {
    let mut out = json!({"time": time});
    for (name, amount) in [
        ("availableBytes", fill.available),
        ("capacityBytes", fill.capacity),
        ("usedBytes", fill.used),
        ("inodesFree", fill.inodes_free),
        ("inodes", fill.inodes),
        ("inodesUsed", fill.inodes_used),
    ] {
        if let Some(amount) = amount {
            out[name] = amount.into();
        }
    }
    out
}

/// The first interface with a default route is `eth0` in pods; on nodes the one that carried most.
fn network(time: &str, all: &[Traffic]) -> Value {
    let one = |t: &Traffic| {
        json!({"name": t.interface, "rxBytes": t.received, "rxErrors": t.receive_errors, "txBytes": t.sent,
            "txErrors": t.send_errors})
    };
    let main = all.iter().find(|t| t.interface == "eth0").or_else(|| all.iter().max_by_key(|t| t.received));
    let mut out = main.map_or_else(|| json!({}), one);
    out["time"] = time.into();
    out["interfaces"] = all.iter().map(one).collect();
    out
}
