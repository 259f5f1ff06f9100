#!/usr/bin/env python3
"""Pods on simulated nodes: first POST -> a watch has shown every one of them Running.
usage: simulate.py SERVER TOKEN PODS"""
import json, sys, threading, time

from client import Client, say

server, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
path = "/api/v1/namespaces/default/pods"
CLIENTS = 8


def pod(name):
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "simulated:1"}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


bodies = [pod(f"simulated-{i}") for i in range(count)]


def create(part):
    client = Client(server, token)
    for body in bodies[part::CLIENTS]:
        client.call("POST", path, body)


# A pod enters the selection when it is running.
events = Client(server, token).watch(path, "&fieldSelector=status.phase%3DRunning")
begin = time.perf_counter()
creators = [threading.Thread(target=create, args=(part,)) for part in range(CLIENTS)]
for creator in creators:
    creator.start()
running = set()
# Looking into each event as JSON would cost this process more than the platform: the name is found as text.
for line in events:
    at = line.find(b'"name":"simulated-')
    if at >= 0:
        running.add(line[at + 8 : line.index(b'"', at + 8)])
    if len(running) == count:
        break
else:
    sys.exit(f"only {len(running)} of {count} pods are running")
took = time.perf_counter() - begin
say("pods created, scheduled and reported running", f"{count / took:.0f} /s", "at least 1,000")
