#!/bin/sh
# Installs what is missing on a Debian machine (or a relative of it) that has Rust:
#   deps.sh build        what the build needs
#   deps.sh build test   and what the tests need
#   deps.sh build guest  and what runs tests in a virtual machine
set -eu
missing=""
need() { # need FILE-OR-COMMAND PACKAGE
    case $1 in
    /*) [ -e "$1" ] || missing="$missing $2" ;;
    *) command -v "$1" > /dev/null 2>&1 || missing="$missing $2" ;;
    esac
}
command -v cargo > /dev/null 2>&1 || {
    echo "Rust is missing: install it from https://rustup.rs, then run this again" >&2
    exit 1
}
need cc gcc
need make make
need curl curl
need "/usr/lib/$(uname -m)-linux-gnu/libseccomp.a" libseccomp-dev
for kind in "$@"; do
    case $kind in
    test)
        # Debian's own kubectl is old but speaks the same API; a newer one on the PATH is used as it is.
        need kubectl kubernetes-client
        need skopeo skopeo
        # Peers that images are exchanged with; runc, since crun refuses machines with both kinds of cgroups.
        need buildah buildah
        need podman podman
        need runc runc
        need docker-registry docker-registry
        need docker docker.io
        need git git
        need /bin/busybox busybox-static
        # Whose placement of keys ours is compared with, and what stands behind the sharding proxy.
        need nutcracker nutcracker
        need nginx nginx-light
        need redis-server redis-server
        need redis-benchmark redis-tools
        need memcached memcached
        ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$missing postgresql"
        ;;
    guest)
        need qemu-system-x86_64 qemu-system-x86
        need strip binutils
        need /bin/busybox busybox-static
        ;;
    esac
done
if [ -n "$missing" ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start servers of their own: those of the packages shall not come up by being installed.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy > /dev/null
        $sudo chmod 755 $policy
        trap '$sudo rm -f $policy' EXIT
    fi
    $sudo apt-get -qq update
    # shellcheck disable=SC2086 — a list of words
    $sudo apt-get -qq install -y --no-install-recommends $missing > /dev/null
fi
case " $* " in
*" test "*) cargo nextest --version > /dev/null 2>&1 || cargo install --locked cargo-nextest ;;
esac
