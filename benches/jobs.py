#!/usr/bin/env python3
"""A Job whose pods do nothing: POST accepted -> it is complete.
usage: jobs.py SERVER TOKEN IMAGE COMPLETIONS PARALLELISM"""
import json, sys, time

from client import Client, pod_spec, say

server, token, image, completions, parallelism = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
client = Client(server, token)
jobs = "/apis/batch/v1/namespaces/default/jobs"
name = f"job-{completions}-{parallelism}"
spec = pod_spec(image, ["/bin/true"], restartPolicy="Never")
job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
       "spec": {"completions": completions, "parallelism": parallelism, "template": {"spec": spec}}}
events = client.watch(jobs)
begin = time.perf_counter()
client.call("POST", jobs, job)
for line in events:
    status = json.loads(line)["object"].get("status", {})
    ends = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    if "Failed" in ends:
        sys.exit(f"the Job failed: {status}")
    if "Complete" in ends:
        break
took = time.perf_counter() - begin
if status.get("succeeded") != completions:
    sys.exit(f"{status.get('succeeded')} of {completions} pods were counted")
promise = "the promise: 10 s" if parallelism >= 20 else "one after another"
say(f"Job of {completions} pods, {parallelism} at a time", f"{took:.1f} s", promise)
client.call("DELETE", f"{jobs}/{name}?propagationPolicy=Background")
