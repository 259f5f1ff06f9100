#!/bin/busybox sh
# The guest's first process: makes a plain machine of the initramfs, runs the suites, tells and powers off.
if [ "$1" != second ]; then
    # No container can have its root moved while the machine's own is the initramfs.
    /bin/busybox mkdir /machine
    /bin/busybox mount -t tmpfs -o size=90%,mode=755 root /machine
    for part in /*; do
        case $part in /machine | /dev | /root) ;; *) /bin/busybox cp -a "$part" /machine/ ;; esac
    done
    exec /bin/busybox switch_root /machine /init second
fi
export PATH=/bin:/sbin HOME=/root HYTHE_TEST_IMAGES=/images RUST_BACKTRACE=1
/bin/busybox mkdir -p /sbin /root /proc /sys /tmp /run /var/lib /etc /dev
/bin/busybox --install -s /bin
ln -s /bin/busybox /sbin/modprobe
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
chmod 1777 /tmp
hostname harbour
ip link set lo up
# As on a machine with systemd: what is started by hand lives in a group of its own, and the root group in use.
mkdir -p /sys/fs/cgroup/user.slice/session.scope
echo $$ > /sys/fs/cgroup/user.slice/session.scope/cgroup.procs
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
echo 'root:x:0:' > /etc/group
echo '127.0.0.1 localhost harbour' > /etc/hosts
ulimit -n 20000
# A node's address, though nothing is behind it.
ip link add uplink type dummy && ip addr add 192.0.2.10/24 dev uplink && ip link set uplink up && ip route add default via 192.0.2.1
. /guest.env

failed=""
suite() { # suite NAME COMMAND...
    name=$1
    shift
    case " $suites " in *" $name "*) ;; *) return ;; esac
    echo "guest: $name"
    begin=$(cut -d. -f1 /proc/uptime)
    "$@" || failed="$failed $name"
    echo "guest: $name took $(($(cut -d. -f1 /proc/uptime) - begin)) s"
}
echo "guest: $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers), up after $(cut -d. -f1 /proc/uptime) s"
cd /tmp
# Files whose users are mapped need a disk: the tmpfs of kernels before 6.3 can't show them under other ids, so that one test,
# which has a volume in memory, is for others.
truncate -s 400M /disk && mke2fs -F /disk > /dev/null && mkdir /mnt && mount -t ext4 -o loop /disk /mnt && chmod 755 /mnt || failed=" disk"
suite engine "$engine" --test-threads 2 run:: adoption:: streams::
suite users env TMPDIR=/mnt "$engine" --test-threads 1 users:: --skip mapped_volumes
suite platform sh /platform.sh "$hythe"
suite docker sh /docker.sh "$hythe"
if [ -z "$failed" ]; then
    echo "guest: all suites passed"
else
    echo "guest: FAILED:$failed"
fi
poweroff -f
