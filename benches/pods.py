#!/usr/bin/env python3
"""Pods as a user of the API sees them: POST accepted -> watch shows Ready; and what a running pod costs.
usage: pods.py SERVER TOKEN IMAGE BURST DATA-DIR"""
import json, os, statistics, sys, threading, time

from client import Client, pod_spec
from client import say as tell

server, token, image, burst, data = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
pods = "/api/v1/namespaces/default/pods"
changed, ready, gone = threading.Condition(), {}, {}


def watch(events):
    for line in events:
        now, event = time.perf_counter(), json.loads(line)
        name, status = event["object"]["metadata"]["name"], event["object"].get("status", {})
        with changed:
            if event["type"] == "DELETED":
                gone[name] = now
            elif any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
                ready.setdefault(name, now)
            changed.notify_all()


def wait(where, names):
    with changed:
        if not changed.wait_for(lambda: all(n in where for n in names), timeout=300):
            sys.exit(f"only {sum(n in where for n in names)} of {len(names)} pods got there")


def pod(name):
    spec = pod_spec(image, ["/bin/sleep", "3600"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def shims():
    """PSS of the platform's own process a pod, MiB."""
    total = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"hythe shim") or b"shim" in open(f"/proc/{pid}/comm", "rb").read():
                text = open(f"/proc/{pid}/smaps_rollup").read()
                total.append(next(int(l.split()[1]) for l in text.splitlines() if l.startswith("Pss:")) / 1024)
        except (OSError, StopIteration):
            continue
    return total


def say(what, value, peer):
    tell(what, value, "Kubernetes: " + peer)


client = Client(server, token)
threading.Thread(target=watch, args=(client.watch(pods),), daemon=True).start()
starts, deletes = [], []
for i in range(20):
    name, begin = f"one-{i}", time.perf_counter()
    client.call("POST", pods, pod(name))
    wait(ready, [name])
    starts.append((ready[name] - begin) * 1e3)
    begin = time.perf_counter()
    client.call("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})
    wait(gone, [name])
    deletes.append((gone[name] - begin) * 1e3)
say("one pod, POST to Ready, p50", f"{statistics.median(starts):.0f} ms", "1,000 ms")
say("one pod, DELETE to gone, p50", f"{statistics.median(deletes):.0f} ms", "14 ms, the API object only")
names, begin = [f"many-{i}" for i in range(burst)], time.perf_counter()
for name in names:
    client.call("POST", pods, pod(name))
wait(ready, names)
say(f"burst of {burst}, pods per second until Ready", f"{burst / (max(ready[n] for n in names) - begin):.1f} /s", "4.5 /s")
costs = shims()
if costs:
    say("memory of the platform per running pod, PSS", f"{sum(costs) / burst:.2f} MiB", "~14 MiB")
for name in names:
    client.call("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})
wait(gone, names)
