#!/bin/bash
# Hythe's sharding proxy beside twemproxy: the same configuration file, the same three redis-servers, redis-benchmark
# against one and the other in turn within one run. Prints requests/s and p99 of each, and the ratio.
#   benches/sharding.sh [ROUNDS] [THOUSANDS OF REQUESTS]
# HYTHE names the binary (default: the newest release build); THREADS its event loops (default: one for two cores).
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-5}
requests=$((${2:-200} * 1000))
target=${CARGO_TARGET_DIR:-target}
hythe=${HYTHE:-$(ls -t "$target"/*/release/hythe-patterns "$target"/*/release/hythe "$target"/*/release/examples/shard 2> /dev/null | head -1)}
[ -x "$hythe" ] || { echo "build it first: cargo build --release -p sharding --example shard" >&2; exit 1; }
for need in nutcracker redis-server redis-benchmark; do
    command -v $need > /dev/null || { echo "$need is missing: scripts/deps.sh test" >&2; exit 1; }
done
work=$(mktemp -d)
pids=""
end() {
    for pid in $pids; do kill "$pid" 2> /dev/null || true; done
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap end EXIT

servers=""
for shard in 0 1 2; do
    redis-server --bind 127.86.0.1 --port $((7000 + shard)) --save "" --appendonly no --dir "$work" > "$work/redis-$shard.log" 2>&1 &
    pids="$pids $!"
    servers="$servers
   - 127.86.0.1:$((7000 + shard)):1"
done
pool() { # pool ADDRESS: the file for both, but for where it listens
    cat << YAML
alpha:
  listen: $1:22121
  hash: fnv1a_64
  distribution: ketama
  redis: true
  timeout: 5000
  preconnect: true
  servers:$servers
YAML
}
pool 127.86.0.2 > "$work/nutcracker.yml"
pool 127.86.0.3 > "$work/hythe.yml"
until redis-cli -h 127.86.0.1 -p 7002 ping > /dev/null 2>&1; do :; done
nutcracker -c "$work/nutcracker.yml" -a 127.86.0.2 -s 22222 > /dev/null 2>&1 &
peer=$!
pids="$pids $peer"
"$hythe" proxy shard --config "$work/hythe.yml" --admin off --access-log off ${THREADS:+--threads $THREADS} 2> "$work/hythe.log" &
proxy=$!
pids="$pids $proxy"
until redis-cli -h 127.86.0.2 -p 22121 set a 1 > /dev/null 2>&1; do :; done
until redis-cli -h 127.86.0.3 -p 22121 set a 1 > /dev/null 2>&1; do :; done
echo "idle: hythe $(awk '/VmRSS/ {print $2}' /proc/$proxy/status) KiB resident"

measure() { # measure ADDRESS PIPELINE COMMAND: requests/s and p99
    redis-benchmark -h "$1" -p 22121 -n "$requests" -c 50 -P "$2" -r 100000 -d 64 -t "$3" --csv 2> /dev/null |
        tr -d '"' | awk -F, 'NR == 2 { print $2, $7 }'
}
# Processor time of a process so far, in microseconds: tells what a request costs, also on a machine that others use.
used() { awk -v hz="$(getconf CLK_TCK)" '{ print int(($14 + $15) * 1000000 / hz) }' "/proc/$1/stat"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
for pipeline in 1 16; do
    for command in set get; do
        : > "$work/n"; : > "$work/h"
        ncpu=0 hcpu=0
        for round in $(seq "$rounds"); do
            before=$(used $peer)
            measure 127.86.0.2 $pipeline $command >> "$work/n"
            ncpu=$((ncpu + $(used $peer) - before)) before=$(used $proxy)
            measure 127.86.0.3 $pipeline $command >> "$work/h"
            hcpu=$((hcpu + $(used $proxy) - before))
        done
        nutcracker=$(cut -d' ' -f1 "$work/n" | median) hythe_rps=$(cut -d' ' -f1 "$work/h" | median)
        np99=$(cut -d' ' -f2 "$work/n" | median) hp99=$(cut -d' ' -f2 "$work/h" | median)
        awk -v c=$command -v p=$pipeline -v n="$nutcracker" -v h="$hythe_rps" -v a="$np99" -v b="$hp99" \
            -v x="$ncpu" -v y="$hcpu" -v all=$((rounds * requests)) 'BEGIN {
            printf "%s -P %-2d  nutcracker %7.0f/s p99 %6.3f ms %5.2f us CPU   hythe %7.0f/s p99 %6.3f ms %5.2f us CPU   ratio %.2f (p99 %.2f, CPU %.2f)\n", c, p, n, a, x / all, h, b, y / all, h / n, b / a, y / x }'
    done
done
echo "after: hythe $(awk '/VmRSS/ {print $2}' /proc/$proxy/status) KiB resident"
