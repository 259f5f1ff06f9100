#!/usr/bin/env python3
"""A StatefulSet with a claim a pod, ordered: POST accepted -> its status shows all of them ready. The claims are of the
default class, so each is provisioned on the way.
usage: claims.py SERVER TOKEN IMAGE REPLICAS"""
import json, sys, time

from client import Client, pod_spec, say

server, token, image, replicas = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
client = Client(server, token)
sets = "/apis/apps/v1/namespaces/default/statefulsets"


def stateful_set(name):
    spec = pod_spec(image, ["/bin/sleep", "3600"])
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "hythe-local",
             "resources": {"requests": {"storage": "1Mi"}}}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "serviceName": name, "selector": {"matchLabels": {"app": name}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec}, "volumeClaimTemplates": [claim]}}


times = []
for turn in range(3):
    name = f"claims-{turn}"
    events = client.watch(sets)
    begin = time.perf_counter()
    client.call("POST", sets, stateful_set(name))
    for line in events:
        if json.loads(line)["object"].get("status", {}).get("readyReplicas") == replicas:
            break
    times.append(time.perf_counter() - begin)
    client.call("DELETE", f"{sets}/{name}?propagationPolicy=Foreground")
say(f"StatefulSet of {replicas} with claims, ordered", f"{sorted(times)[1]:.2f} s", "the promise: 3 s")
