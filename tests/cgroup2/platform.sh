#!/bin/sh
# The platform's life in the guest, by its own command line: platform.sh HYTHE
hythe=$1
export HYTHE_DATA_DIR=/var/lib/hythe
cgroups=/sys/fs/cgroup

fail() {
    echo "FAILED: $*"
    "$hythe" get pods -A -o wide
    "$hythe" get events -A
    tail -n 40 $HYTHE_DATA_DIR/hythe.log
    exit 1
}
passed() { echo "ok  $*"; }
expect() { # expect WHAT EXPECTED FOUND
    [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"
}
until_true() { # until_true WHAT COMMAND...: what no event tells a shell of
    what=$1 tries=0
    shift
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$what: not in time"
        sleep 0.2
    done
}
says() { "$hythe" get "$1" -o yaml 2> /dev/null | grep -q "$2"; } # says TYPE/NAME WORDS
in_log() { "$hythe" logs "$1" 2> /dev/null | grep -q "$2"; }
inside() { pod=$1; shift; "$hythe" exec "$pod" -- "$@"; }
process_of() { # the first process of a pod's container, as the host counts
    find $cgroups -path "*$(uid_of "$1")*" -name cgroup.procs -exec cat {} + | sort -n | head -n 1
}
uid_of() { "$hythe" get "pod/$1" -o yaml | sed -n 's/^  uid: //p'; }

links() { ip -o link | cut -d: -f2; }
links_before=$(links)

"$hythe" up --detach --registry-port 0 --node-name guest || fail "up"
"$hythe" image import /images/busybox.tar busybox:1 > /dev/null || fail "import"
cat > /tmp/pods.yaml << 'END'
apiVersion: v1
kind: Pod
metadata: {name: limited, labels: {app: limited}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "echo begun; mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"]
    resources: {requests: {cpu: 250m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: limited}
spec: {selector: {app: limited}, clusterIP: 10.43.0.77, ports: [{port: 8080, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:1
    # A child takes the memory: all of the container has to end with it.
    command: [sh, -c, "(x=x; while true; do x=$x$x; done); echo survived"]
    resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: users}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "busybox:1", command: [sh, -c, "while true; do true; done"], resources: {limits: {cpu: 200m}}}
END
"$hythe" apply -f /tmp/pods.yaml > /dev/null || fail "apply"
until_true "the pod" in_log limited begun
passed "a pod runs and its log is read"

for pair in cpu.max="50000 100000" cpu.weight=35 memory.max=33554432 memory.swap.max=0 memory.oom.group=1; do
    expect "${pair%%=*} in the container" "${pair#*=}" "$(inside limited cat "/sys/fs/cgroup/${pair%%=*}")"
done
expect "the group as seen from inside" "0::/" "$(inside limited cat /proc/self/cgroup)"
inside limited sh -c 'echo 1 > /sys/fs/cgroup/cgroup.freeze' 2> /dev/null && fail "a container may write to its cgroup"
passed "its limits are in force, and a process of exec is under them"

until_true "the OOM kill" says pod/hungry "reason: OOMKilled"
says pod/hungry "exitCode: 137" || fail "a container killed for its memory ends with 137"
"$hythe" logs hungry | grep -q survived && fail "the container outlived the kill of its child"
passed "too much memory is an OOM kill of the whole container"

until_true "the service" wget -q -O /tmp/page http://10.43.0.77:8080/index.html
expect "the page" served "$(cat /tmp/page)"
passed "a Service leads to it"

throttled() { [ "$(inside users sed -n 's/^nr_throttled //p' /sys/fs/cgroup/cpu.stat)" -gt 0 ]; }
until_true "throttling" throttled
passed "a container that exceeds its CPU limit is throttled"

before=$(process_of limited)
daemon=$(cat $HYTHE_DATA_DIR/hythe.pid)
kill -9 "$daemon"
ended() { [ ! -d "/proc/$daemon" ]; }
until_true "the daemon's end" ended
[ -d "/proc/$before" ] || fail "the container died with the daemon"
"$hythe" up --detach --registry-port 0 --node-name guest || fail "up again"
until_true "adoption" inside limited true
expect "the container's process" "$before" "$(process_of limited)"
says pod/limited "restartCount: 0" || fail "the container was started again"
passed "containers outlive the daemon and are taken over"

"$hythe" delete pod users limited > /dev/null || fail "delete"
gone() { ! "$hythe" get pod/limited > /dev/null 2>&1; }
until_true "the pod's end" gone
"$hythe" down --purge > /dev/null || fail "down --purge"
left=$(find $cgroups -name '*hythe*'; grep hythe /proc/mounts; find $HYTHE_DATA_DIR /run/hythe 2> /dev/null)
expect "what is left" "" "$left"
expect "links" "$links_before" "$(links)"
for process in /proc/[0-9]*; do
    case $(readlink "$process/exe") in
    */hythe*) fail "process ${process#/proc/} is left: $(tr '\0' ' ' < "$process/cmdline")" ;;
    esac
done
passed "down --purge leaves nothing"
