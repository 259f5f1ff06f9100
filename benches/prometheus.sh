#!/bin/sh
# Debian's Prometheus scrapes a Redis by the metrics adapter, and the adapter by its admin port; nothing is compared but whether it
# takes what it is told. Run by hand: the package is large.
#   prometheus.sh [HYTHE]     PROMETHEUS=… names another program
set -eu
hythe=${1:-target/x86_64-unknown-linux-gnu/release/hythe}
prometheus=${PROMETHEUS:-prometheus}
scratch=$(mktemp -d)
pids=""
# shellcheck disable=SC2086 — a list of words
trap 'kill $pids 2> /dev/null || true; wait; rm -rf "$scratch"' EXIT
redis-server --port 17391 --bind 127.0.0.1 --save "" > /dev/null & pids="$pids $!"
"$hythe" adapter metrics --from redis --target redis://127.0.0.1:17391 --listen 127.0.0.1:17392 \
    --admin 127.0.0.1:17393 --access-log off & pids="$pids $!"
cat > "$scratch/prometheus.yml" << END
global: {scrape_interval: 1s}
scrape_configs:
- {job_name: redis, static_configs: [{targets: ['127.0.0.1:17392']}]}
- {job_name: adapter, static_configs: [{targets: ['127.0.0.1:17393']}]}
END
"$prometheus" --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/data" \
    --web.listen-address=127.0.0.1:17394 2> "$scratch/log" & pids="$pids $!"
ask() {
    curl -sS --noproxy '*' --retry 20 --retry-connrefused --data-urlencode "query=$1" http://127.0.0.1:17394/api/v1/query
}
turns=0
until ask 'sum(up) == 2 and on() redis_up == 1' | grep -q '"value"'; do
    turns=$((turns + 1))
    [ "$turns" -lt 30 ] || { echo "it was not scraped"; ask up; cat "$scratch/log"; exit 1; }
    sleep 1
done
for job in redis adapter; do
    echo "$job: $(ask "count({job=\"$job\"})" | sed 's/.*"value":\[[^,]*,"\([0-9]*\)".*/\1/') series"
done
