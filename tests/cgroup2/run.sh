#!/bin/sh
# Runs what depends on cgroups in a small virtual machine that has cgroup v2 only: Debian's cloud kernel under QEMU's
# software emulation, and an initramfs with nothing in it but busybox, docker and what was built here.
#
#   run.sh            build, assemble, boot, judge
#
# Fails when a test fails, or when the machine has not told that all passed before the deadline.
#   HYTHE_TEST_IMAGES   where `make images` put them           GUEST_DEADLINE   seconds, 1800
#   GUEST_BUILD         cargo's words to choose packages        GUEST_SUITES     engine users platform docker
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
work=${CARGO_TARGET_DIR:-$root/target}/guest
images=${HYTHE_TEST_IMAGES:-$root/target/images}
suites=${GUEST_SUITES:-engine users platform docker}
deadline=${GUEST_DEADLINE:-1800}
if [ "$(uname -m)" != x86_64 ]; then
    echo "the guest's kernel and emulator are fetched for x86-64 only, this is $(uname -m)" >&2
    exit 1
fi
mkdir -p "$work"

# --- the kernel, unpacked and not installed
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ ! -e "$work/kernel/$package" ]; then
    [ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64: run apt-get update" >&2; exit 1; }
    rm -rf "$work/kernel" "$work/download"
    mkdir -p "$work/download"
    (cd "$work/download" && apt-get -qq -o APT::Sandbox::User=root download "$package")
    dpkg-deb -x "$work"/download/*.deb "$work/kernel"
    rm -rf "$work/download"
    touch "$work/kernel/$package"
fi
release=$(basename "$work"/kernel/lib/modules/*)

# --- the programs, by the paths that the tests have compiled in
echo "building the tests"
# shellcheck disable=SC2086 — words
cargo build --locked ${GUEST_BUILD:---workspace} --test engine --bin engine-shim --bin hythe \
    --message-format=json-render-diagnostics > "$work/build.json"
built() { # built KIND NAME: the executable of a target
    grep "\"kind\":\[\"$1\"\],\"crate_types\":\[\"bin\"\],\"name\":\"$2\"" "$work/build.json" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
engine=$(built test engine) shim=$(built bin engine-shim) hythe=$(built bin hythe)
for program in "$engine" "$shim" "$hythe"; do
    [ -x "$program" ] || { echo "a test program was not built: see $work/build.json" >&2; exit 1; }
done

# --- the initramfs
tree=$work/tree
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/images" "$tree/lib/modules/$release"
cp /bin/busybox "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
install -m 755 "$here/init.sh" "$tree/init"
cp "$here/platform.sh" "$here/docker.sh" "$tree/"
for program in "$engine" "$shim" "$hythe"; do
    mkdir -p "$tree$(dirname "$program")"
    strip -o "$tree$program" "$program"
done
case " $suites " in
*" docker "*)
    cp -L "$(command -v docker)" "$tree/bin/docker"
    if ! busybox chroot "$tree" /bin/docker --version > /dev/null 2>&1; then
        # Debian's is linked to the C library.
        for library in $(ldd "$(command -v docker)" | sed -n 's/.* \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'); do
            mkdir -p "$tree$(dirname "$library")"
            cp -L "$library" "$tree$library"
        done
    fi
    busybox chroot "$tree" /bin/docker --version > /dev/null || { echo "docker does not run alone" >&2; exit 1; }
    ;;
esac
cp "$images/busybox.tar" "$tree/images/"
# Modules are for the kernel to ask for, as on any machine: none is named on its command line.
busybox depmod -b "$work/kernel" "$release"
(cd "$work/kernel/lib/modules/$release" && cp modules.* "$tree/lib/modules/$release/")
copy_module() { # copy_module PATH: with what it depends on
    for file in $1 $(sed -n "s|^$1:||p" "$tree/lib/modules/$release/modules.dep"); do
        mkdir -p "$tree/lib/modules/$release/$(dirname "$file")"
        cp "$work/kernel/lib/modules/$release/$file" "$tree/lib/modules/$release/$file"
    done
}
for pattern in fs/overlayfs/overlay drivers/net/veth drivers/net/dummy drivers/net/tun net/bridge/bridge net/bridge/br_netfilter \
    'net/netfilter/nft_[a-z0-9_]*' 'net/netfilter/nf_[a-z0-9_]*' net/netfilter/nfnetlink \
    'net/ipv4/netfilter/nf[a-z0-9_]*' 'net/ipv6/netfilter/nf[a-z0-9_]*' drivers/block/loop; do
    for module in $(sed -n "s|^\(kernel/$pattern\.ko\):.*|\1|p" "$tree/lib/modules/$release/modules.dep"); do
        copy_module "$module"
    done
done
cat > "$tree/guest.env" << END
suites='$suites' engine='$engine' hythe='$hythe'
END
(cd "$tree" && find . | busybox cpio -o -H newc > "$work/initramfs" 2> /dev/null)

# --- the machine
echo "booting $release with cgroup v2 only: $suites"
begin=$(date +%s)
log=$work/console.log
status=0
timeout "$deadline" qemu-system-x86_64 -accel "${GUEST_ACCEL:-tcg,thread=multi}" -machine pc -cpu max -smp 2 -m "${GUEST_MEMORY:-2G}" \
    -nodefaults -no-user-config -no-reboot -display none -nic none -serial stdio \
    -kernel "$work/kernel/boot/vmlinuz-$release" -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet loglevel=1 panic=-1 cgroup_no_v1=all random.trust_cpu=on" \
    < /dev/null > "$log" 2>&1 || status=$?
took=$(($(date +%s) - begin))
if ! tr -d '\r' < "$log" | grep -qx 'guest: all suites passed'; then
    tr -d '\r' < "$log"
    [ "$status" != 124 ] || echo "the guest was still at it after $deadline s" >&2
    echo "cgroup v2: FAILED after $took s" >&2
    exit 1
fi
tr -d '\r' < "$log" | grep -E '^guest: |^test result|^ok '
echo "cgroup v2: all passed in $took s"
