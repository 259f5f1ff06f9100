#!/bin/sh
# Compares the proxies with HAProxy, nginx and Varnish, side by side in one run on loopback, and prints ratios.
#   benches/proxy.sh [SECONDS a run, 5] [CONNECTIONS, 32]
# Needs haproxy, nginx, varnish, wrk, openssl, h2load (nghttp2-client) and python3. PROXY names another command than the
# example's, as `hythe-patterns proxy`. Handshakes are compared with nginx speaking the same versions of TLS, and, since
# Debian's nginx 1.22 does not by default, with one that speaks TLS 1.2 alone, where a resumed session needs no key exchange.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-5} connections=${2:-32} rounds=${ROUNDS:-3}
if [ -z "${PROXY:-}" ]; then
    cargo build -q --release -p proxy --example proxy
    PROXY=${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/release/examples/proxy
fi
dir=$(mktemp -d)
pids=""
finish() {
    # shellcheck disable=SC2086 — a list of processes
    [ -z "$pids" ] || kill $pids 2> /dev/null || true
    wait 2> /dev/null || true
    rm -rf "$dir"
}
trap finish EXIT INT TERM
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2> /dev/null
cat "$dir/cert.pem" "$dir/key.pem" > "$dir/both.pem"
nginx_head="daemon off; worker_processes 2; error_log /dev/null; events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; client_body_temp_path $dir/t1; proxy_temp_path $dir/t2;
fastcgi_temp_path $dir/t3; uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;"
cat > "$dir/backend.conf" << END
pid $dir/backend.pid; $nginx_head
server { listen 127.0.0.1:19100 reuseport; location / { default_type text/plain; add_header Cache-Control max-age=600;
return 200 "hello, a small body of sixty-four bytes that is served forever.\n"; } } }
END
cat > "$dir/nginx.conf" << END
pid $dir/nginx.pid; $nginx_head
upstream b { server 127.0.0.1:19100; keepalive 256; keepalive_requests 1000000000; }
ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem;
server { listen 127.0.0.1:19112 ssl reuseport; ssl_protocols TLSv1.2; location / { proxy_pass http://b;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host;
proxy_set_header X-Forwarded-For \$remote_addr; proxy_set_header X-Real-IP \$remote_addr; } }
server { listen 127.0.0.1:19101 reuseport; listen 127.0.0.1:19111 ssl reuseport; ssl_protocols TLSv1.2 TLSv1.3;
location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host;
proxy_set_header X-Forwarded-For \$remote_addr; proxy_set_header X-Real-IP \$remote_addr; } } }
END
cat > "$dir/haproxy.cfg" << END
global
  nbthread 2
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  mode http
  option forwardfor
  bind 127.0.0.1:19102
  default_backend servers
backend servers
  mode http
  http-reuse always
  server a 127.0.0.1:19100
listen bytes
  mode tcp
  bind 127.0.0.1:19122
  server a 127.0.0.1:19100
END
cat > "$dir/proxy.yaml" << END
access_log: false
listeners:
- {address: '127.0.0.1:19103', routes: [{to: [{pool: app}]}]}
- {address: '127.0.0.1:19113', tls: {certificates: [{certificate: $dir/cert.pem, key: $dir/key.pem}]}, routes: [{to: [{pool: app}]}]}
- {address: '127.0.0.1:19123', protocol: tcp, pool: app}
- {address: '127.0.0.1:19133', routes: [{to: [{pool: app}], cache: c}]}
- {address: '127.0.0.1:19143', limits: {connections: 20000}, routes: [{to: [{pool: upgrades}]}]}
pools: [{name: upgrades, endpoints: [{address: '127.0.0.1:19140'}]}, {name: app, endpoints: [{address: '127.0.0.1:19100'}]}]
caches: [{name: c}]
END
nginx -c "$dir/backend.conf" & pids="$pids $!"
nginx -c "$dir/nginx.conf" & pids="$pids $!"
haproxy -f "$dir/haproxy.cfg" > /dev/null 2>&1 & pids="$pids $!"
varnishd -F -n "$dir/varnish" -a 127.0.0.1:19134 -b 127.0.0.1:19100 -s malloc,64m > /dev/null 2>&1 & pids="$pids $!"
tools() { python3 benches/proxy.py "$@"; }
printf 'start to first byte: '
echo "listeners: [{address: '127.0.0.1:19153', routes: [{filters: {respond: {body: hello}}}]}]" > "$dir/small.yaml"
# shellcheck disable=SC2086 — a command and its arguments
echo "$(tools first-byte 19153 $PROXY http --config "$dir/small.yaml" --admin off) ms (bar 20)"
# shellcheck disable=SC2086
$PROXY http --config "$dir/proxy.yaml" --admin off --threads 2 2> "$dir/proxy.log" & ours=$!; pids="$pids $ours"
python3 benches/proxy.py upgrades 19140 & pids="$pids $!"
for port in 19100 19101 19102 19103 19134 19133; do
    tries=0
    until curl -sf --noproxy '*' -o /dev/null "http://127.0.0.1:$port/"; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "nothing answers on port $port" >&2; cat "$dir/proxy.log" >&2; exit 1; }
        sleep 0.1
    done
done
memory() { awk '/^(VmRSS|RssAnon|RssFile):/ {printf "%s %.1f MiB  ", $1, $2 / 1024}' "/proc/$ours/status"; }
echo "idle, after a request each: $(memory)(bar 8 of VmRSS)"
one() { wrk -t1 -c"$connections" -d"$seconds" "$@" | sed -n 's,^Requests/sec: *,,p'; }
# compare NAME BAR PEER PEER-URL OUR-URL [wrk's arguments]: the median of rounds that take turns.
compare() {
    name=$1 bar=$2 peer=$3 theirs=$4 mine=$5; shift 5
    : > "$dir/theirs"; : > "$dir/mine"
    for _ in $(seq "$rounds"); do
        one "$@" "$theirs" >> "$dir/theirs"; one "$@" "$mine" >> "$dir/mine"
    done
    a=$(sort -n "$dir/theirs" | sed -n "$(((rounds + 1) / 2))p"); b=$(sort -n "$dir/mine" | sed -n "$(((rounds + 1) / 2))p")
    echo "$name $peer $a hythe $b bar $bar" | awk '{printf "%-16s %-8s %9.0f/s   hythe %9.0f/s   ratio %.2f (bar %s)\n", $1, $2, $3, $5, $5 / $3, $7}'
}
compare balancing 0.9 haproxy http://127.0.0.1:19102/ http://127.0.0.1:19103/
compare balancing 1.0 nginx http://127.0.0.1:19101/ http://127.0.0.1:19103/
compare tcp 0.9 haproxy http://127.0.0.1:19122/ http://127.0.0.1:19123/
compare cached-hits 1.0 varnish http://127.0.0.1:19134/ http://127.0.0.1:19133/
compare tls-handshakes 0.9 nginx https://127.0.0.1:19111/ https://127.0.0.1:19113/ -H "Connection: close"
compare tls-beside-1.2 - nginx-1.2 https://127.0.0.1:19112/ https://127.0.0.1:19113/ -H "Connection: close"
# What each of them agrees on with the same client: a ratio says little where that differs.
for version in 1_3 1_2; do
    for port in 19111 19113; do
        said=$(openssl s_client -tls$version -connect "127.0.0.1:$port" -servername localhost < /dev/null 2> /dev/null |
            sed -n 's/^New, .* Cipher is \(.*\)/\1/p; s/^Server Temp Key: \([^,]*\).*/\1/p; s/^Peer signature type: \(.*\)/\1/p; s/^Peer signing digest: \(.*\)/\1/p' | tr '\n' ' ')
        [ $port = 19111 ] && who=nginx || who=hythe
        echo "TLS $version, $who: $said"
    done
done
middle() { sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"; }
# Handshakes of four clients at once, whose every word the two servers agree on: sessions PORT [s_time's arguments].
sessions() {
    port=$1; shift
    for _ in 1 2 3 4; do
        openssl s_time -connect "127.0.0.1:$port" "$@" -time "$seconds" 2> /dev/null | sed -n 's/^\([0-9]*\) connections in .* real seconds.*/\1/p' | tail -1 &
    done | awk -v s="$seconds" '{n += $1} END {print n / s}'
}
handshakes() {
    name=$1; shift
    : > "$dir/theirs"; : > "$dir/mine"
    for _ in $(seq "$rounds"); do sessions 19111 "$@" >> "$dir/theirs"; sessions 19113 "$@" >> "$dir/mine"; done
    echo "$name $(middle "$dir/theirs") $(middle "$dir/mine")" | awk '{printf "%-16s %-8s %9.0f/s   hythe %9.0f/s   ratio %.2f (bar 0.9)\n", $1, "nginx", $2, $3, $3 / $2}'
}
handshakes tls-1.3-new -new -ciphersuites TLS_AES_128_GCM_SHA256
handshakes tls-1.2-new -new -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256
handshakes tls-1.2-resumed -reuse -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256
# At a rate that all of them manage, what the way through a proxy adds. The machine's own p99 wanders, so there are twice as
# many rounds, they take turns, and the median of what each round's proxy took beyond the same round's direct way counts.
rate() { h2load --h1 -t1 -c20 --rps=100 -D "$seconds" --log-file="$dir/log" "http://127.0.0.1:$1/" > /dev/null 2>&1; tools p99 "$dir/log"; rm -f "$dir/log"; }
: > "$dir/p99"
for turn in $(seq $((2 * rounds))); do
    # Who comes second has an advantage or not: each is that as often as the other.
    if [ $((turn % 2)) = 0 ]; then
        haproxy=$(rate 19102); direct=$(rate 19100); mine=$(rate 19103)
    else
        mine=$(rate 19103); direct=$(rate 19100); haproxy=$(rate 19102)
    fi
    echo "$direct $((haproxy - direct)) $((mine - direct))" >> "$dir/p99"
done
column() { awk -v c="$1" '{print $c}' "$dir/p99" | sort -n | awk '{v[NR] = $1} END {printf "%d (%d to %d)", v[int((NR + 1) / 2)], v[1], v[NR]}'; }
echo "p99 at 2,000/s    direct $(column 1) us   haproxy adds $(column 2) us   hythe adds $(column 3) us   (bar: no more than haproxy)"
echo "after that: $(memory)"
tools websockets 19143 "$ours" 10000
