#!/usr/bin/env python3
"""A StatefulSet with a claim a pod, ordered: POST accepted -> its status shows all of them ready. The claims are of the
default class, so each is provisioned on the way.
usage: claims.py SERVER TOKEN IMAGE REPLICAS"""
import http.client, json, ssl, sys, time
from urllib.parse import urlparse

server, token, image, replicas = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
url = urlparse(server)
context = ssl._create_unverified_context()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
sets = "/apis/apps/v1/namespaces/default/statefulsets"


def connect():
    return http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=180)


def call(method, path, body=None):
    connection = connect()
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text[:300]}")
    return json.loads(text)


def stateful_set(name):
    container = {"name": "c", "image": image, "command": ["/bin/sleep", "3600"], "imagePullPolicy": "IfNotPresent",
                 "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "hythe-local",
             "resources": {"requests": {"storage": "1Mi"}}}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "serviceName": name, "selector": {"matchLabels": {"app": name}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec}, "volumeClaimTemplates": [claim]}}


times = []
for turn in range(3):
    name = f"claims-{turn}"
    watch = connect()
    version = call("GET", sets)["metadata"]["resourceVersion"]
    watch.request("GET", f"{sets}?watch=1&resourceVersion={version}", headers=headers)
    stream = watch.getresponse()
    begin = time.perf_counter()
    call("POST", sets, stateful_set(name))
    for line in iter(stream.readline, b""):
        status = json.loads(line)["object"].get("status", {})
        if status.get("readyReplicas") == replicas:
            break
    times.append(time.perf_counter() - begin)
    call("DELETE", f"{sets}/{name}?propagationPolicy=Foreground")
print(f"{f'StatefulSet of {replicas} with claims, ordered':46} {sorted(times)[1]:>12.2f} s   (the promise: 3 s)")
