#!/bin/sh
# Scatter/gather over nine leaves of two replicas each, every answer of 2 ms slow (500 ms) one time in a hundred: the p99
# with and without second requests, side by side in one run, and how many requests more that took.
#   benches/scatter.sh [REQUESTS, 2000] [AT ONCE, 4]
# HYTHE names the binary (default: the newest release build). It takes about a minute, and ends by itself after five.
set -eu
cd "$(dirname "$0")/.."
requests=${1:-2000} at_once=${2:-4}
target=${CARGO_TARGET_DIR:-target}
hythe=${HYTHE:-$(ls -t "$target"/*/release/hythe-patterns "$target"/*/release/hythe 2> /dev/null | head -1)}
[ -x "$hythe" ] || { echo "build it first: make build" >&2; exit 1; }
work=$(mktemp -d)
pids=""
finish() {
    # shellcheck disable=SC2086 — a list of processes
    [ -z "$pids" ] || kill $pids 2> /dev/null || true
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT INT TERM
python3 benches/scatter.py leaves 127.86.2.1 7001 18 &
pids="$pids $!"
for hedge in false true; do
    {
        echo "listen: 127.86.2.2:808$([ $hedge = true ] && echo 1 || echo 0)"
        echo "deadline: 5s"
        echo "hedge: {enabled: $hedge}"
        echo "leaves:"
        for leaf in 0 1 2 3 4 5 6 7 8; do
            echo "- {name: shard-$leaf, replicas: [\"127.86.2.1:$((7001 + leaf * 2))\", \"127.86.2.1:$((7002 + leaf * 2))\"]}"
        done
    } > "$work/$hedge.yaml"
    "$hythe" scatter --config "$work/$hedge.yaml" --admin off --access-log off 2> "$work/$hedge.log" &
    pids="$pids $!"
done
ask() { curl -s --noproxy '*' --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 20 "$1"; }
ask http://127.86.2.2:8080/api/v1/warm > /dev/null
ask http://127.86.2.2:8081/api/v1/warm > /dev/null
measure() { # measure NAME PORT: p50, p95, p99 and how many questions the leaves were asked
    before=$(ask http://127.86.2.1:7000/asked)
    figures=$(timeout 150 python3 benches/scatter.py clients "127.86.2.2:$2" "$requests" "$at_once")
    echo "$figures $(($(ask http://127.86.2.1:7000/asked) - before))" > "$work/$1"
    awk -v n="$1" '{ printf "%-7s p50 %6.1f ms  p95 %6.1f ms  p99 %6.1f ms  %d questions\n", n, $1, $2, $3, $4 }' "$work/$1"
}
measure plain 8080
measure hedged 8081
paste -d' ' "$work/plain" "$work/hedged" |
    awk '{ printf "p99 %.1f x lower for %.2f %% more requests\n", $3 / $7, 100 * ($8 / $4 - 1) }'
