//! The summary API (`stats/v1alpha1`).

use serde_json::{Map, Value, json};

use super::{
    fill::{self, Fill},
    measure::{Depth, Measured, MeasuredContainer, MeasuredPod},
};
use crate::{
    agent::Agent,
    node,
    runtime::{Traffic, Usage, traffic},
};

pub(super) fn render(agent: &Agent, measured: &Measured, depth: Depth) -> Value {
    let time = measured.at.to_string();
    let context = &agent.context;
    let (all, available) = (context.machine.memory_bytes, node::memory_available().unwrap_or(0));
    let mut of_node = json!({
        "nodeName": context.config.node_name,
        "startTime": node::booted_at().map(|at| at.to_string()),
        "cpu": {"time": time, "usageCoreNanoSeconds": node::cpu_nanoseconds().unwrap_or(0)},
        "memory": {"time": time, "availableBytes": available, "usageBytes": all - available,
            "workingSetBytes": all - available},
    });
    if depth == Depth::All {
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
    let pods: Vec<Value> = measured.pods.iter().map(|p| pod(&time, agent, p, depth)).collect();
    json!({"node": of_node, "pods": pods})
}

fn pod(time: &str, agent: &Agent, pod: &MeasuredPod, depth: Depth) -> Value {
    let meta = &pod.view.pod.metadata;
    let disk = (depth == Depth::All).then(|| fill::whole(agent.context.data_dir())).flatten();
    let containers: Vec<Value> = pod.containers.iter().map(|c| container(time, agent, c, disk.as_ref())).collect();
    let mut out = json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": pod.view.pod.status.as_ref().and_then(|s| s.start_time.clone()),
        "containers": containers,
        "cpu": {"time": time, "usageCoreNanoSeconds": pod.sum(|u| u.cpu_nanoseconds)},
        "memory": {"time": time, "usageBytes": pod.sum(|u| u.memory), "workingSetBytes": pod.sum(|u| u.working_set),
            "rssBytes": pod.sum(|u| u.rss), "pageFaults": pod.sum(|u| u.page_faults.0),
            "majorPageFaults": pod.sum(|u| u.page_faults.1)},
    });
    if depth != Depth::All {
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
        let own = pod.containers.iter().flat_map(|c| [c.root, c.logs]);
        let (used, inodes_used) = local.chain(own).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        out["ephemeral-storage"] = fs(time, &Fill { used, inodes_used, ..disk });
    }
    out["process_stats"] = json!({"process_count": pod.sum(|u| u.pids)});
    out
}

fn container(time: &str, agent: &Agent, container: &MeasuredContainer, disk: Option<&Fill>) -> Value {
    let usage = &container.usage;
    let mut out = json!({
        "name": container.record.name,
        "startTime": container.started().map(|at| at.to_string()),
        "cpu": {"time": time, "usageCoreNanoSeconds": usage.cpu_nanoseconds},
        "memory": memory(time, usage),
    });
    if let Some(disk) = disk {
        let images = agent.context.images.directory().and_then(|path| fill::whole(&path)).unwrap_or(*disk);
        let of = |(used, inodes_used): (u64, u64), on: Fill| fs(time, &Fill { used, inodes_used, ..on });
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
    json!({
        "time": time, "availableBytes": fill.available, "capacityBytes": fill.capacity, "usedBytes": fill.used,
        "inodesFree": fill.inodes_free, "inodes": fill.inodes, "inodesUsed": fill.inodes_used,
    })
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
