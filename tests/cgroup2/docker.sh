#!/bin/sh
# Stock docker in the guest, and the platform inside one of its containers: docker.sh HYTHE
hythe=$1
export HYTHE_DATA_DIR=/var/lib/hythe DOCKER_HOST=unix:///run/hythe/docker.sock HOME=/tmp
cgroups=/sys/fs/cgroup

fail() {
    echo "FAILED: $*"
    docker ps -a
    tail -n 40 /tmp/engine.log
    exit 1
}
passed() { echo "ok  $*"; }
expect() { # expect WHAT EXPECTED FOUND
    [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"
}

serve() { # serve FLAGS...
    "$hythe" engine --socket /run/hythe/docker.sock "$@" >> /tmp/engine.log 2>&1 &
    engine=$!
    tries=0
    until docker version > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "the engine: not in time"
        sleep 0.2
    done
}
process_of() { docker inspect --format '{{.State.Pid}}' "$1"; }

"$hythe" image import /images/busybox.tar busybox:1 > /dev/null || fail "import"
serve
expect "docker info" "2 cgroupfs" "$(docker info --format '{{.CgroupVersion}} {{.CgroupDriver}}')"

docker run -d --name one --memory 64m --memory-swap 96m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0 busybox:1 \
    sleep 1000 > /dev/null || fail "run"
limits=$(docker exec one sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max cpu.weight pids.max cpuset.cpus' | tr '\n' ' ')
expect "limits" "67108864 33554432 50000 100000 59 50 0 " "$limits"
passed "limits of docker run are in force"

docker pause one > /dev/null || fail "pause"
expect "a paused container" paused "$(docker inspect --format '{{.State.Status}}' one)"
frozen=$(find $cgroups -name cgroup.events -exec grep -l 'frozen 1' {} +)
[ -n "$frozen" ] || fail "nothing is frozen"
docker unpause one > /dev/null || fail "unpause"
expect "a container that goes on" running "$(docker inspect --format '{{.State.Status}}' one)"
passed "pause and unpause"

docker update --memory 128m --memory-swap 128m --cpus 1 --pids-limit 60 one > /dev/null || fail "update"
limits=$(docker exec one sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max' | tr '\n' ' ')
expect "limits after an update" "134217728 0 100000 100000 60 " "$limits"
case $(docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' one) in
*B\ /\ 128MiB\ 1) ;;
*) fail "stats: $(docker stats --no-stream one)" ;;
esac
passed "update and stats"

docker run --name two --memory 32m busybox:1 sh -c 'x=x; while true; do x=$x$x; done' > /dev/null 2>&1
expect "a container without memory" "137 true" "$(docker inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' two)"
docker rm -f one two > /dev/null || fail "rm"
passed "an OOM kill is told"

docker run -d --name stays --memory 48m busybox:1 sh -c 'i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done' > /dev/null ||
    fail "run"
docker run -d --name ends busybox:1 sh -c 'while [ ! -e /end ]; do sleep 0.1; done; exit 42' > /dev/null || fail "run"
before=$(process_of stays) ending=$(process_of ends)
kill -9 $engine
wait $engine
[ -d "/proc/$before" ] || fail "the container died with the engine"
# It ends while nobody watches.
touch "/proc/$ending/root/end"
tries=0
while [ -d "/proc/$ending" ]; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "the container does not end"
    sleep 0.1
done
serve
expect "the container's process" "running $before" "$(docker inspect --format '{{.State.Status}} {{.State.Pid}}' stays)"
expect "one that ended meanwhile" "exited 42" "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' ends)"
expect "the limit as a process of exec sees it" 50331648 "$(docker exec stays cat /sys/fs/cgroup/memory.max)"
case $(docker stats --no-stream --format '{{.MemUsage}}' stays) in
*\ /\ 48MiB) ;;
*) fail "stats: $(docker stats --no-stream stays)" ;;
esac
docker pause stays > /dev/null && docker unpause stays > /dev/null || fail "pause of a container taken over"
docker logs stays | awk '$2 != NR - 1 {exit 1}' || fail "a line is missing or doubled"
docker rm -f stays ends > /dev/null || fail "rm"
passed "containers outlive a killed engine and are taken over, with their limits, logs and exit codes"

# What looks like the root of the hierarchy in there is a group with processes in it.
cat > /tmp/inner.sh << 'END'
cd /sys/fs/cgroup
export HYTHE_DATA_DIR=/data
/hythe up --detach --registry-port 0 --docker-socket none --node-name inner --pod-cidr 10.52.0.0/16 --service-cidr 10.53.0.0/16 > /tmp/up || { cat /tmp/up; exit 1; }
/hythe image import /images/busybox.tar busybox:1 > /dev/null
/hythe apply -f - << 'POD' > /dev/null
apiVersion: v1
kind: Pod
metadata: {name: inner}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "busybox:1", command: [sleep, "1000"], resources: {limits: {memory: 24Mi}}}]}
POD
tries=0
until limit=$(/hythe exec inner -- cat /sys/fs/cgroup/memory.max 2> /tmp/why); do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat /tmp/why; tail -n 40 /data/hythe.log; exit 1; }
    sleep 0.2
done
echo "limit $limit"
/hythe down --purge > /dev/null || exit 1
echo "left: $(find . -name '*hythe*' | tr '\n' ' ')"
END
docker run --rm --privileged -v "$hythe:/hythe:ro" -v /images:/images:ro -v /tmp/inner.sh:/inner.sh:ro --tmpfs /data --tmpfs /run --tmpfs /tmp \
    busybox:1 sh /inner.sh > /tmp/inner.out 2>&1 || fail "the platform in a container: $(cat /tmp/inner.out)"
expect "the platform in a container" "limit 25165824 left: " "$(tr '\n' ' ' < /tmp/inner.out | sed 's/ $//')"
passed "the platform runs in a privileged container, and leaves its cgroups as they were"

kill $engine
wait $engine
"$hythe" down --purge > /dev/null || fail "down --purge"
left=$(find $cgroups -name '*hythe*'; find $HYTHE_DATA_DIR /run/hythe 2> /dev/null)
expect "what is left" "" "$left"
passed "down --purge leaves nothing of the engine"

# On the disk, where files can be shown under other ids.
export HYTHE_DATA_DIR=/mnt/hythe
"$hythe" image import /images/busybox.tar busybox:1 > /dev/null || fail "import"
serve --userns-remap default
docker run -d --name mapped --memory 48m busybox:1 sh -c 'echo inside > /file; echo begun; exec sleep 1000' > /dev/null || fail "run"
tries=0
until docker logs mapped | grep -q begun; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "the container does not begin"
    sleep 0.1
done
expect "the user inside" 0 "$(docker exec mapped id -u)"
user=$(stat -c %u "/proc/$(process_of mapped)")
[ "$user" -ge 65536 ] || fail "the user outside is $user"
# On the disk it belongs to whom it belongs to inside: the mount maps it.
expect "whose a file is" "0 0" "$(docker exec mapped stat -c %u /file) $(find /mnt/hythe/content/snapshots -name file -path '*upper*' -exec stat -c %u {} +)"
expect "the limit of a mapped container" 50331648 "$(docker exec mapped cat /sys/fs/cgroup/memory.max)"
docker exec mapped sh -c 'echo max > /sys/fs/cgroup/memory.max' 2> /dev/null && fail "a mapped container may write to its cgroup"
docker rm -f mapped > /dev/null || fail "rm"
passed "a container with users of its own is limited and entered"
kill $engine
wait $engine
"$hythe" down --purge > /dev/null || fail "down --purge"
expect "what is left" "" "$(find $cgroups -name '*hythe*'; find $HYTHE_DATA_DIR 2> /dev/null)"
