#!/usr/bin/env python3
"""Pods as a user of the API sees them: POST accepted -> watch shows Ready; and what a running pod costs.
usage: pods.py SERVER TOKEN IMAGE BURST DATA-DIR"""
import http.client, json, os, ssl, statistics, sys, threading, time
from urllib.parse import urlparse

server, token, image, burst, data = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
url = urlparse(server)
context = ssl._create_unverified_context()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
pods = "/api/v1/namespaces/default/pods"
changed, ready, gone = threading.Condition(), {}, {}


def connect():
    return http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=180)


def call(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text[:300]}")
    return json.loads(text)


def watch(version):
    connection = connect()
    connection.request("GET", f"{pods}?watch=1&resourceVersion={version}", headers=headers)
    stream = connection.getresponse()
    for line in iter(stream.readline, b""):
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
    container = {"name": "c", "image": image, "command": ["/bin/sleep", "3600"], "imagePullPolicy": "IfNotPresent"}
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
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
    print(f"{what:46} {value:>14}   (Kubernetes: {peer})", flush=True)


connection = connect()
threading.Thread(target=watch, args=(call(connection, "GET", pods)["metadata"]["resourceVersion"],), daemon=True).start()
starts, deletes = [], []
for i in range(20):
    name, begin = f"one-{i}", time.perf_counter()
    call(connection, "POST", pods, pod(name))
    wait(ready, [name])
    starts.append((ready[name] - begin) * 1e3)
    begin = time.perf_counter()
    call(connection, "DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})
    wait(gone, [name])
    deletes.append((gone[name] - begin) * 1e3)
say("one pod, POST to Ready, p50", f"{statistics.median(starts):.0f} ms", "1,000 ms")
say("one pod, DELETE to gone, p50", f"{statistics.median(deletes):.0f} ms", "14 ms, the API object only")
names, begin = [f"many-{i}" for i in range(burst)], time.perf_counter()
for name in names:
    call(connection, "POST", pods, pod(name))
wait(ready, names)
say(f"burst of {burst}, pods per second until Ready", f"{burst / (max(ready[n] for n in names) - begin):.1f} /s", "4.5 /s")
costs = shims()
if costs:
    say("memory of the platform per running pod, PSS", f"{sum(costs) / burst:.2f} MiB", "~14 MiB")
for name in names:
    call(connection, "DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})
wait(gone, names)
