#!/bin/sh
# Many pods come and go in rounds of 200, with real containers: what the platform holds of the machine before, and after
# each round, once its pods are gone; and its memory at rest, before and after. Ends with 1 if anything but memory has
# grown: that holds the events of the last hour, too. Needs root, python3 and nft (for the number of rules, if it is there).
#   churn.sh HYTHE-BINARY [PODS]
set -eu
hythe=$1 pods=${2:-1000}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
data=$work/data
port=18445
h="$hythe --data-dir $data"
export PYTHONDONTWRITEBYTECODE=1
trap '$h down --purge > /dev/null 2>&1; rm -rf "$work"' EXIT INT TERM

sh "$here/../examples/guestbook/images.sh" "$work/images" busybox > /dev/null
$h image import "$work/images/busybox.tar" busybox:1 > /dev/null
$h up --detach --port $port --pod-cidr 10.122.0.0/16 --service-cidr 10.142.0.0/16 --registry-port 0 --docker-socket none > /dev/null
python3 "$here/churn.py" "https://127.0.0.1:$port" "$(cat "$data/admin.token")" busybox:1 "$pods" "$data"
