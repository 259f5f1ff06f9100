#!/bin/sh
# The container engine beside its peers, in one run on this machine, with the ratio and the bar it has to keep:
#   docker.sh HYTHE-BINARY [CONTAINERS]
# Needs root, docker's client, podman, buildah, runc, skopeo and docker-registry (scripts/deps.sh test installs them).
# Times are medians of rounds in which the peers take turns, in milliseconds.
set -eu
hythe=$1 containers=${2:-500}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export DOCKER_BUILDKIT=0 DOCKER_CONFIG="$work/client" NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
export DOCKER_HOST="unix://$work/docker.sock"
engine="" registry="" apart=""
finish() {
    [ -z "$registry" ] || kill "$registry" 2> /dev/null || true
    [ -z "$apart" ] || kill "$apart" 2> /dev/null || true
    [ -z "$engine" ] || kill "$engine" 2> /dev/null || true
    [ -z "$engine" ] || wait "$engine" 2> /dev/null || true
    "$hythe" --data-dir "$work/data" down --purge > /dev/null 2>&1 || true

    for mount in $(awk -v root="$work/" 'index($2, root) == 1 {print $2}' /proc/mounts | sort -r); do umount "$mount" || true; done
    rm -rf "$work"
}
trap finish EXIT INT TERM

podman() {
    env -u DOCKER_CONFIG -u DOCKER_HOST podman --root "$work/peer/root" --runroot "$work/peer/run" --storage-driver overlay \
        --cgroup-manager=cgroupfs --events-backend=file --runtime=runc "$@"
}
podman_run() { podman run --rm --network none --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 "$@"; }
buildah() { env -u DOCKER_CONFIG -u DOCKER_HOST buildah --root "$work/peer/root" --runroot "$work/peer/run" --storage-driver overlay "$@"; }
skopeo() { env -u DOCKER_CONFIG -u DOCKER_HOST skopeo --insecure-policy "$@"; }

now() { date +%s%N; }
# took COMMAND…: milliseconds
took() {
    start=$(now)
    "$@" > "$work/out" 2>&1 || { cat "$work/out" >&2; echo "failed: $*" >&2; exit 1; }
    echo $((($(now) - start) / 10000)) | awk '{printf "%.2f\n", $1 / 100}'
}
median() { sort -n "$1" | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
# compare WHAT BAR(<=|>=|-) FACTOR ROUNDS OURS THEIRS: names of functions, which are told the round; where there is a function
# OURS_after, it follows untimed. ">=" compares speeds, so the ratio turns over; "-" is for the reader alone.
after() { if command -v "$1_after" > /dev/null; then "$1_after" "$2" > "$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }; fi; }
compare() {
    rm -f "$work/ours" "$work/theirs"
    round=0
    while [ "$round" -lt "$4" ]; do
        took "$5" "$round" >> "$work/ours"
        after "$5" "$round"
        took "$6" "$round" >> "$work/theirs"
        after "$6" "$round"
        round=$((round + 1))
    done
    awk -v what="$1" -v bar="$2" -v factor="$3" -v a="$(median "$work/ours")" -v b="$(median "$work/theirs")" 'BEGIN {
        ratio = bar == "<=" ? a / b : b / a
        kept = bar == ">=" ? ratio >= factor : ratio <= factor
        printf "%-56s %9.1f ms %9.1f ms   ratio %5.2f", what, a, b, ratio
        if (bar != "-") printf "  (bar %s %s)  %s", bar, factor, kept ? "kept" : "MISSED"
        print "" }'
}

echo "assembling images…" >&2
sh "$here/../examples/guestbook/images.sh" "${HYTHE_TEST_IMAGES:-$work/images}" busybox redis-7 python-3-slim > /dev/null
images=${HYTHE_TEST_IMAGES:-$work/images}
mkdir "$work/root"
for part in redis-7 python-3-slim; do tar -xf "$images/$part.tar" -C "$work/root"; done
tar -C "$work/root" --numeric-owner -cf "$work/debian.tar" .
rm -rf "$work/root"

"$hythe" --data-dir "$work/data" engine --socket "$work/docker.sock" > "$work/engine.log" 2>&1 &
engine=$!
until docker version > /dev/null 2>&1; do kill -0 "$engine" && sleep 0.1; done
docker import "$images/busybox.tar" busybox > /dev/null
podman import "$images/busybox.tar" busybox > /dev/null 2>&1

printf '%-56s %12s %12s\n' "" "hythe" "peer"

run_ours() { docker run --rm --network none busybox echo hello; }
run_theirs() { podman_run busybox echo hello; }
run_ours > /dev/null && run_theirs > /dev/null
compare "run --rm echo, without a network (podman)" "<=" 0.4 21 run_ours run_theirs
run_network() { docker run --rm busybox echo hello; }
compare "  the same with a network of its own (podman without)" "<=" 0.4 11 run_network run_theirs

mkdir "$work/context"
echo file > "$work/context/file"
{
    echo "FROM busybox"
    for n in 1 2 3; do printf 'ENV N%s=%s\nRUN echo %s > /made-%s\nCOPY file /file-%s\n' $n $n $n $n $n; done
} > "$work/context/Dockerfile"
sed 's|^FROM busybox|FROM localhost/busybox|' "$work/context/Dockerfile" > "$work/context/Dockerfile.peer"
build_ours() { docker build -q -t built "$work/context"; }
build_alone() { "$hythe" --data-dir "$work/data" build -q -t built "$work/context"; }
build_theirs() { buildah bud -q --layers --isolation chroot -f "$work/context/Dockerfile.peer" -t built "$work/context"; }
build_ours > /dev/null 2>&1 && build_theirs > /dev/null 2>&1
compare "ten steps, all cached: docker build (buildah)" "<=" 0.25 11 build_ours build_theirs
compare "ten steps, all cached: hythe build (buildah)" "<=" 0.25 11 build_alone build_theirs

first_ours() { docker import "$work/debian.tar" "debian:$1"; docker run --rm --network none "debian:$1" true; docker rmi "debian:$1"; }
first_theirs() { podman import -q "$work/debian.tar" "debian:$1"; podman_run "debian:$1" true; podman rmi "debian:$1"; }
compare "import, unpack, start $(($(stat -c %s "$work/debian.tar") / 1000000)) MB (podman)" "<=" 0.6 3 first_ours first_theirs

# A registry that belongs to neither side, on a file system that costs both the same.
cat > "$work/registry.yml" << END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: 127.0.0.1:5999}
END
docker-registry serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
registry=$!
until curl -fsS --noproxy '*' http://127.0.0.1:5999/v2/ > /dev/null 2>&1; do kill -0 "$registry" && sleep 0.1; done
address=127.0.0.1:5999
from_there="--src-tls-verify=false" to_there="--dest-tls-verify=false"
forget() { rm -rf "$work/registry/docker/registry/v2"; }
# The same image twice: as it was made here, its layer plain, and as registries mostly have it, compressed (which skopeo does
# unless it must keep digests). Both sides carry the very same blobs.
docker import "$work/debian.tar" "$address/plain:1" > /dev/null
docker push -q "$address/plain:1" > /dev/null
skopeo copy -q $from_there --preserve-digests "docker://$address/plain:1" "oci:$work/layout-plain:1"
skopeo copy -q $from_there "docker://$address/plain:1" "oci:$work/layout-gzip:1"
forget
skopeo copy -q --preserve-digests $to_there "oci:$work/layout-gzip:1" "docker://$address/gzip:1"
docker rmi "$address/plain:1" > /dev/null

storage="containers-storage:[overlay@$work/peer/root+$work/peer/run]"
pull_ours() { docker pull -q "$address/gzip:1"; }
pull_ours_after() { docker rmi "$address/gzip:1"; }
pull_theirs() { skopeo copy -q $from_there "docker://$address/gzip:1" "${storage}gzip:$1"; }
pull_theirs_after() { podman rmi "gzip:$1"; }
compare "pull and unpack over loopback (skopeo to podman's store)" ">=" 1.5 5 pull_ours pull_theirs
keep_theirs() { skopeo copy -q $from_there "docker://$address/gzip:1" "oci:$work/kept:gzip"; }
keep_theirs_after() { rm -rf "$work/kept"; }
compare "  the same (skopeo to files, nothing unpacked)" - 0 5 pull_ours keep_theirs

for kind in gzip plain; do
    case $kind in
    gzip) docker pull -q "$address/gzip:1" > /dev/null ;;
    plain) docker import "$work/debian.tar" "$address/plain:1" > /dev/null ;;
    esac
    push_ours() { docker push -q "$address/$kind:1"; }
    push_ours_after() { forget; }
    push_theirs() { skopeo copy -q --preserve-digests $to_there "oci:$work/layout-$kind:1" "docker://$address/$kind:1"; }
    push_theirs_after() { forget; }
    forget
    compare "push to docker-registry, $kind (skopeo from files)" ">=" 1.5 5 push_ours push_theirs
    # What that registry itself takes for the same bytes: no client can be faster.
    blob=$(find "$work/layout-$kind/blobs/sha256" -type f -size +1M)
    push_bare() {
        upload=$(curl -fsS -X POST -D - -o "$work/answer" --noproxy '*' "http://$address/v2/$kind/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
        curl -fsS --noproxy '*' -H Expect: -H 'Content-Type: application/octet-stream' -T "$blob" "$upload&digest=sha256:$(basename "$blob")"
    }
    push_bare_after() { forget; }
    compare "  its layer alone by curl (skopeo from files)" - 0 5 push_bare push_theirs
    # To a registry of ours with a store of its own, where the server is not what both wait for.
    ours=127.0.0.1:5998
    serve_apart() {
        [ -z "$apart" ] || { kill "$apart" && wait "$apart" || true; }
        rm -rf "$work/apart"
        "$hythe" --data-dir "$work/apart" registry --listen "$ours" > "$work/apart.log" 2>&1 &
        apart=$!
        until curl -fsS --noproxy '*' "http://$ours/v2/" > /dev/null 2>&1; do kill -0 "$apart" && sleep 0.1; done
    }
    serve_apart
    docker tag "$address/$kind:1" "$ours/$kind:1"
    apart_ours() { docker push -q "$ours/$kind:1"; }
    apart_ours_after() { serve_apart; }
    apart_theirs() { skopeo copy -q --preserve-digests $to_there "oci:$work/layout-$kind:1" "docker://$ours/$kind:1"; }
    apart_theirs_after() { serve_apart; }
    compare "push to hythe's registry, $kind (skopeo from files)" ">=" 1.5 5 apart_ours apart_theirs
    docker rmi "$ours/$kind:1" > /dev/null
    docker rmi "$address/$kind:1" > /dev/null
done
for name in $(docker images --format '{{.Repository}}:{{.Tag}}' | grep -v busybox); do docker rmi "$name" > /dev/null; done

n=0
start=$(now)
while [ "$n" -lt "$containers" ]; do
    docker run -d --network none busybox sleep 100000 > /dev/null
    n=$((n + 1))
done
took=$((($(now) - start) / 1000000))
pss() { for pid in "$@"; do awk '/^Pss:/ {s += $2} END {print s}' "/proc/$pid/smaps_rollup" 2> /dev/null; done | awk '{s += $1} END {printf "%.1f", s / 1024}'; }
own=$(pss "$engine")
# Shims are the engine's own children; processes of --init, which these containers do not ask for, would be theirs.
children=$(pgrep -P "$engine" || true)
# shellcheck disable=SC2086 — a list of numbers
shims=$(pss $children) count=$(echo $children | wc -w)
awk -v n="$containers" -v own="$own" -v shims="$shims" -v count="$count" -v ms="$took" 'BEGIN {
    printf "%-56s %9.1f MiB (bar <= 64 MiB)  %s; %d shims: %.1f MiB, %.2f each; %.0f ms each to start\n", n " containers: the engine itself, PSS", own, own <= 64 ? "kept" : "MISSED", count, shims, shims / count, ms / n
    if (count != n) print "not every container has a shim: the figure is wrong" }'
docker ps -q | xargs docker rm -f > /dev/null
