#!/usr/bin/env python3
"""Jobs of pods that do nothing, one after another; counts before them and after each round.
usage: churn.py SERVER TOKEN IMAGE PODS DATA-DIR"""
import json, os, shutil, subprocess, sys, time

from client import Client, pod_spec

server, token, image, count, data = *sys.argv[1:4], int(sys.argv[4]), sys.argv[5]
client = Client(server, token)
jobs, pods = "/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods"
daemon = int(open(f"{data}/hythe.pid").read())
name = "hythe-%08x" % __import__("functools").reduce(lambda h, b: ((h ^ b) * 0x01000193) & 0xFFFFFFFF, data.encode(), 0x811C9DC5)


def run(job, completions):
    spec = pod_spec(image, ["/bin/true"], restartPolicy="Never", volumes=[{"name": "d", "emptyDir": {}}])
    spec["containers"][0]["volumeMounts"] = [{"name": "d", "mountPath": "/d"}]
    events = client.watch(jobs)
    client.call("POST", jobs, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job}, "spec": {
        "completions": completions, "parallelism": 20, "template": {"spec": spec}}})
    for line in events:
        if any(c["type"] == "Complete" for c in json.loads(line)["object"].get("status", {}).get("conditions", [])):
            break
    client.call("DELETE", f"{jobs}/{job}?propagationPolicy=Background")
    until(lambda: not client.get(pods)["items"], "the end of the pods")


def until(is_so, what):
    end = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.1)


def tree(path):
    return sum(1 + len(files) for _, _, files in os.walk(path))


def cgroups():
    roots = ["/sys/fs/cgroup"] + ["/sys/fs/cgroup/" + entry for entry in os.listdir("/sys/fs/cgroup")]
    return sum(sum(1 for _ in os.walk(f"{root}/{name}")) for root in roots)


def links():
    """The bridge's name: FNV-1a of the instance's in 64 bits, folded."""
    wide = 0xCBF29CE484222325
    for byte in name.encode():
        wide = ((wide ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return len(os.listdir(f"/sys/class/net/hy-{(wide >> 32) ^ (wide & 0xFFFFFFFF):08x}/brif"))


def rules():
    if not shutil.which("nft"):
        return 0
    return len(subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout.splitlines())


def memory():
    rollup = open(f"/proc/{daemon}/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024


def holdings():
    return {
        "file descriptors": len(os.listdir(f"/proc/{daemon}/fd")),
        "mounts": sum(data in line or name in line for line in open("/proc/self/mountinfo")),
        "cgroups": cgroups(),
        "links in the pods' bridge": links(),
        "lines of nft's rules": rules(),
        "entries below /run/hythe": tree(f"/run/hythe/{name}"),
        "entries of the agent": tree(f"{data}/agent"),
    }


def memory_at_rest():
    """Two looks of the daemon at itself later: what a burst needed is given back by then, what is kept stays."""
    time.sleep(REST)
    return memory()


ROUND, REST = 200, 75
run("warm", max(20, count // 10))
at_rest = memory_at_rest()
before, first, begin = holdings(), memory(), time.perf_counter()
rounds = max(1, count // ROUND)
header = ["", "before"] + [f"round {turn + 1}" for turn in range(rounds)]
seen, sizes = [], []
for turn in range(rounds):
    run(f"churn-{turn}", min(ROUND, count))
    time.sleep(2)
    seen.append(holdings())
    sizes.append(memory())
took = time.perf_counter() - begin
print(f"{'pods run to their end and removed':46} {count:>8} in {took:.0f} s, {count / took:.0f} /s")
print(f"{header[0]:32}" + "".join(f"{title:>10}" for title in header[1:]))
grown = False
for what, was in before.items():
    # A few connections and their like come and go.
    more = seen[-1][what] > was + (8 if what == "file descriptors" else 0)
    grown |= more
    print(f"{what:32}{was:>10}" + "".join(f"{now[what]:>10}" for now in seen) + ("   GROWN" if more else ""))
print(f"{'memory of the platform, PSS MiB':32}{first:>10.1f}" + "".join(f"{size:>10.1f}" for size in sizes))
print(f"{'the same at rest, before and after':32}{at_rest:>10.1f}{memory_at_rest():>10.1f}")
sys.exit(grown)
