#!/bin/sh
# Throughput of the API over TLS: creates of ConfigMaps of 256 bytes and gets with 32 connections, lists of 500 with 8.
#   api.sh SERVER TOKEN
set -eu
server=$1 token=$2 seconds=${SECONDS_EACH:-8}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/create.lua" << L
local thread = 0
function setup(t) thread = thread + 1; t:set("id", thread) end
local n = 0
local body = string.rep("x", 256)
function request()
  n = n + 1
  return wrk.format("POST", "/api/v1/namespaces/default/configmaps",
    {["Authorization"] = "Bearer $token", ["Content-Type"] = "application/json"},
    string.format('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"load-%d-%d","labels":{"load":"1"}},"data":{"k":"%s"}}', id, n, body))
end
L
printf 'wrk.headers["Authorization"] = "Bearer %s"\n' "$token" > "$work/get.lua"
rate() { # rate NAME PEER WRK-ARGUMENTS…
    name=$1 peer=$2
    shift 2
    wrk -t2 -d"${seconds}s" --latency "$@" > "$work/out"
    awk -v name="$name" -v peer="$peer" '/Requests\/sec/{r=$2} /99%/{p=$2} /Non-2xx/{e=$NF}
        END{printf "%-46s %12.0f /s   (Kubernetes: %s) p99 %s, %d refused\n", name, r, peer, p, e}' "$work/out"
}
rate "API creates, 32 connections, durable" "297 /s" -c32 -s "$work/create.lua" "$server"
curl -sk -o /dev/null -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
    -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","labels":{"load":"1"}},"data":{"k":"v"}}' \
    "$server/api/v1/namespaces/default/configmaps"
rate "API gets, 32 connections" "2,592 /s" -c32 -s "$work/get.lua" "$server/api/v1/namespaces/default/configmaps/one"
rate "API lists of 500, 8 connections" "174 /s" -c8 -s "$work/get.lua" "$server/api/v1/namespaces/default/configmaps?limit=500"
curl -sk -o /dev/null -X DELETE -H "Authorization: Bearer $token" "$server/api/v1/namespaces/default/configmaps?labelSelector=load%3D1"
