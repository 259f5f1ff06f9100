#!/bin/sh
# The platform's figures on this machine, each beside the peer's: Kubernetes 1.20 + etcd 3.4 + containerd 1.6 + runc 1.1,
# measured on a machine of the same size (2 cores). Needs root, curl, python3 and wrk.
#   run.sh HYTHE-BINARY [PODS-IN-A-BURST]
set -eu
hythe=$1 burst=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
command -v wrk > /dev/null || apt-get -qq install -y wrk > /dev/null
work=$(mktemp -d)
data=$work/data
port=18443
export PYTHONDONTWRITEBYTECODE=1
h="$hythe --data-dir $data"
trap '$h down --purge > /dev/null 2>&1; rm -rf "$work"' EXIT INT TERM

say() { printf '%-46s %14s   (Kubernetes: %s)\n' "$1" "$2" "$3"; }
pss() { # MiB of the daemon, or of all shims
    for pid in "$@"; do awk '/^Pss:/{s+=$2}END{print s}' "/proc/$pid/smaps_rollup"; done | awk '{s+=$1}END{printf "%.1f", s/1024}'
}

sh "$here/../examples/guestbook/images.sh" "$work/images" busybox > /dev/null
$h image import "$work/images/busybox.tar" busybox:1 > /dev/null
ready=$($h up --detach --port $port --pod-cidr 10.120.0.0/16 --service-cidr 10.140.0.0/16 | sed -n 's/.*ready in //p')
pid=$(cat "$data/hythe.pid")
say "start to node Ready, empty directory" "$ready" "23 s"
sleep 10
before=$(awk '{print $14+$15}' "/proc/$pid/stat")
sleep 20
after=$(awk '{print $14+$15}' "/proc/$pid/stat")
say "memory when idle, PSS" "$(pss "$pid") MiB" "684 MiB"
say "CPU when idle, of one core" "$(awk "BEGIN{printf \"%.2f\", ($after-$before)/20}") %" "5 to 10 %"

token=$(cat "$data/admin.token")
python3 "$here/pods.py" "https://127.0.0.1:$port" "$token" busybox:1 "$burst" "$data"
python3 "$here/claims.py" "https://127.0.0.1:$port" "$token" busybox:1 10
python3 "$here/jobs.py" "https://127.0.0.1:$port" "$token" busybox:1 200 20
python3 "$here/jobs.py" "https://127.0.0.1:$port" "$token" busybox:1 20 1
sh "$here/api.sh" "https://127.0.0.1:$port" "$token"
say "memory after the load, PSS" "$(pss "$pid") MiB" "1,033 MiB"
