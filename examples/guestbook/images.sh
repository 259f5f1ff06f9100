#!/bin/sh
# Assembles root file systems from Debian packages, as images for machines that reach no registry:
#   images.sh DIR [NAME…]     writes DIR/NAME.tar for redis-7, python-3-slim and busybox (all, or those named)
# The Dockerfiles beside this file make images of them; hythe image import DIR/redis-7.tar redis:7 does too.
# Needs root-free apt-get and dpkg-deb; nothing of the machine itself is changed.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- redis-7 python-3-slim busybox

# packages DIR PACKAGE…: unpacks the packages and all that they depend on below DIR, without running their scripts.
packages() {
    root=$1
    shift
    state=$(mktemp -d)
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$root"
    : > "$state/status"
    # The machine's own package lists are used; its idea of what is installed is not.
    apt-get -qq -o Dir::State::status="$state/status" -o Dir::Cache::archives="$state/archives" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root --no-install-recommends --download-only -y install "$@" > "$state/log" 2>&1 ||
        { cat "$state/log" >&2; exit 1; }
    for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -rf "$state" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" "$root/usr/share/info"
}

# accounts DIR [USER:ID]: the files that tell who is who.
accounts() {
    mkdir -p "$1/etc" "$1/tmp" "$1/proc" "$1/sys" "$1/dev" "$1/root"
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' > "$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$1/etc/group"
    printf 'hosts: files dns\n' > "$1/etc/nsswitch.conf"
    if [ $# -gt 1 ]; then
        printf '%s:x:%s:%s::/:/bin/false\n' "${2%:*}" "${2#*:}" "${2#*:}" >> "$1/etc/passwd"
        printf '%s:x:%s:\n' "${2%:*}" "${2#*:}" >> "$1/etc/group"
    fi
}

for name in "$@"; do
    [ -s "$out/$name.tar" ] && continue
    root=$(mktemp -d)
    case $name in
    redis-7)
        packages "$root" redis-server redis-tools busybox
        accounts "$root" redis:999
        mkdir -p "$root/data"
        chown 999:999 "$root/data" 2> /dev/null || true
        ;;
    python-3-slim)
        packages "$root" python3 busybox
        accounts "$root"
        ;;
    busybox)
        packages "$root" busybox
        accounts "$root"
        ;;
    *)
        echo "images.sh: no image is called $name" >&2
        exit 1
        ;;
    esac
    # A shell and the small tools that people reach for with exec.
    mkdir -p "$root/bin"
    for tool in sh ls cat echo sleep ps wget nc nslookup hostname id env grep tar true false kill mkdir rm cp mv \
        touch stat head tail wc date uname ip ping vi df du mount sort seq test printf httpd chmod chown ln md5sum \
        sha256sum dd sync tr cut sed awk find xargs which timeout yes tee expr basename dirname; do
        [ -e "$root/bin/$tool" ] || [ -e "$root/usr/bin/$tool" ] || ln -s busybox "$root/bin/$tool"
    done
    tar -C "$root" --numeric-owner --sort=name --mtime=@0 -cf "$out/$name.tar.new" .
    mv "$out/$name.tar.new" "$out/$name.tar"
    rm -rf "$root"
    echo "$out/$name.tar"
done
