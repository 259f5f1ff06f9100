#!/bin/sh
# The control plane under many pods: simulated nodes with the real agent, which pretends to run containers, in a process
# of their own. Prints pods created, scheduled and reported running a second, what each took of a processor (which says
# more than the rate where others use the machine, too), the control plane's memory, and how long stock kubectl takes to
# list them all, of which its own share is what no server can better. Needs root, python3 and kubectl.
#   simulate.sh HYTHE-BINARY [PODS]
set -eu
hythe=$1 pods=${2:-5000}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
data=$work/data
port=18444
h="$hythe --data-dir $data"
nodes=""
export PYTHONDONTWRITEBYTECODE=1
# What the nodes write down about their pods is no part of what is measured.
[ -d /dev/shm ] && memory=/dev/shm || memory=$work
trap '[ -z "$nodes" ] || { kill $nodes; wait $nodes; }; $h down --purge > /dev/null 2>&1; rm -rf "$work"' EXIT INT TERM

$h up --detach --port $port --pod-cidr 10.121.0.0/16 --service-cidr 10.141.0.0/16 --registry-port 0 --docker-socket none > /dev/null
# The pods go to the simulated nodes alone.
export KUBECONFIG=$data/admin.kubeconfig
kubectl cordon "$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')" > /dev/null
TMPDIR=$memory $h simulate --nodes $((pods / 100)) > "$work/nodes.log" 2>&1 &
nodes=$!
until grep -q 'are ready' "$work/nodes.log"; do
    kill -0 $nodes || { cat "$work/nodes.log"; exit 1; }
    sleep 0.2
done
pid=$(cat "$data/hythe.pid")
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
before_plane=$(ticks "$pid") before_nodes=$(ticks $nodes)
python3 "$here/simulate.py" "https://127.0.0.1:$port" "$(cat "$data/admin.token")" "$pods"
awk "BEGIN{tick = 1e6 / $(getconf CLK_TCK) / $pods
    printf \"%-46s %10.0f us    (nodes %.0f us more)\n\", \"processor time of the control plane for a pod\",
        ($(ticks "$pid") - $before_plane) * tick, ($(ticks $nodes) - $before_nodes) * tick}"
awk '/^Pss:/{printf "%-46s %10.0f MiB   (at most 512)\n", "memory of the control plane, PSS", $2/1024}' "/proc/$pid/smaps_rollup"
python3 "$here/listing.py" "$pods"
