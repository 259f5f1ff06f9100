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
        # What `docker build` is where docker is installed as its makers say. Bookworm has no package of it.
        buildx=yes
        need git git
        # Whose server and agent repositories are fetched from.
        need /usr/sbin/sshd openssh-server
        need ssh-agent openssh-client
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
    # Nor shall the next start of the machine open it to others.
    case $missing in
    *openssh-server*) $sudo systemctl disable --quiet ssh 2> /dev/null || true ;;
    esac
fi
# The plugin of a later Debian, by its checksum; it needs nothing that this one lacks.
if [ "${buildx:-}" = yes ] && ! docker buildx version > /dev/null 2>&1; then
    [ "$(uname -m)" = x86_64 ] || { echo "docker-buildx is missing: install it, then run this again" >&2; exit 1; }
    package=docker-buildx_0.13.1+ds1-3_amd64.deb
    sum=fcf8c48204d1603c8f209451d7827eb91bf30759578baf7704e9e1a87e5f1d7f
    scratch=$(mktemp -d)
    echo "installing: docker-buildx"
    curl -fsSL -o "$scratch/$package" "http://deb.debian.org/debian/pool/main/d/docker-buildx/$package"
    echo "$sum  $scratch/$package" | sha256sum -c - > /dev/null
    dpkg-deb -x "$scratch/$package" "$scratch/files"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo install -D "$scratch/files/usr/libexec/docker/cli-plugins/docker-buildx" \
        /usr/local/lib/docker/cli-plugins/docker-buildx
    rm -r "$scratch"
fi
case " $* " in
*" test "*) cargo nextest --version > /dev/null 2>&1 || cargo install --locked cargo-nextest ;;
esac
