#!/usr/bin/env python3
"""Pods on simulated nodes: first POST -> a watch has shown every one of them Running.
usage: simulate.py SERVER TOKEN PODS"""
import http.client, json, ssl, sys, threading, time
from urllib.parse import urlparse

server, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
url = urlparse(server)
context = ssl._create_unverified_context()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
path = "/api/v1/namespaces/default/pods"
CLIENTS = 8


def connect():
    return http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=300)


def pod(name):
    spec = {
        "nodeSelector": {"hythe.io/simulated": "true"},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "simulated:1"}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


bodies = [pod(f"simulated-{i}") for i in range(count)]


def create(part):
    connection = connect()
    for body in bodies[part::CLIENTS]:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            print(f"POST: {answer.status} {text[:300]}", file=sys.stderr)
            return


connection = connect()
connection.request("GET", path + "?limit=1", headers=headers)
version = json.loads(connection.getresponse().read())["metadata"]["resourceVersion"]
connection.request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=600", headers=headers)
stream = connection.getresponse()
begin = time.perf_counter()
creators = [threading.Thread(target=create, args=(part,)) for part in range(CLIENTS)]
for creator in creators:
    creator.start()
running = set()
# Looking into each event as JSON would cost this process more than the platform: the phase is told apart as text.
while len(running) < count:
    line = stream.readline()
    if not line:
        sys.exit(f"only {len(running)} of {count} pods are running")
    if b'"phase":"Running"' in line:
        at = line.index(b'"name":"simulated-')
        running.add(line[at + 8 : line.index(b'"', at + 8)])
took = time.perf_counter() - begin
print(f"{'pods created, scheduled and reported running':46} {count / took:10.0f} /s    (at least 1,000)", flush=True)
