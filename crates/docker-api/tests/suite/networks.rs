//! Networks: ports, names, sharing.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::world::World;

/// What a web server on a port of this machine says.
fn page(port: &str) -> String {
    page_at("127.0.0.1", port)
}

fn page_at(host: &str, port: &str) -> String {
    let mut stream = TcpStream::connect(format!("{host}:{port}")).expect("the port leads somewhere");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned()
}

const SERVE: &str = "mkdir /w; echo page of $HOSTNAME > /w/index.html; httpd -p 80 -h /w; touch /up; sleep 1000";

#[test]
fn a_published_port_leads_to_the_container_and_is_nobody_elses() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "web", "-h", "web", "-p", "80", "busybox", "sh", "-c", SERVE]).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let port = world.docker(&["port", "web", "80"]).ok();
    let port = port.rsplit(':').next().unwrap();
    assert_eq!(page(port), "page of web");
    let text = world.docker(&["run", "-d", "-p", &format!("{port}:80"), "busybox", "true"]).fails(125);
    assert!(text.contains("port is already allocated"), "{text}");
    world.docker(&["rm", "-f", "web"]).ok();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn a_port_of_all_addresses_is_one_of_both_kinds_and_comes_back_with_its_container() {
    let mut world = World::new();
    world.docker(&["run", "-d", "--name", "web", "-h", "web", "-p", "80", "busybox", "sh", "-c", SERVE]).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let shown = world.docker(&["port", "web", "80"]).ok();
    let (four, six) = shown.split_once('\n').expect("two lines");
    let port = four.strip_prefix("0.0.0.0:").unwrap().to_owned();
    assert_eq!(six, format!("[::]:{port}"));
    assert!(world.docker(&["ps", "--format", "{{.Ports}}"]).ok().contains(&format!("[::]:{port}->80/tcp")));
    assert_eq!((page(&port).as_str(), page_at("[::1]", &port).as_str()), ("page of web", "page of web"));
    // What the connections have left behind is in nobody's way.
    world.docker(&["restart", "-t", "0", "web"]).ok();
    let fixed = format!("{port}:80");
    world.docker(&["rm", "-f", "web"]).ok();
    world.docker(&["run", "-d", "--name", "web", "-h", "web", "-p", &fixed, "busybox", "sh", "-c", SERVE]).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    assert_eq!(page_at("[::1]", &port), "page of web");
    world.crash_and_restart();
    assert_eq!(page_at("[::1]", &port), "page of web");
    let bound = ["run", "-d", "--name", "six", "-h", "six", "-p", "[::1]::80", "busybox", "sh", "-c", SERVE];
    world.docker(&bound).ok();
    world.until(&["exec", "six", "ls", "/up"], "/up");
    let shown = world.docker(&["port", "six", "80"]).ok();
    assert_eq!(page_at("[::1]", shown.strip_prefix("[::1]:").unwrap()), "page of six");
}

#[test]
fn containers_of_a_network_find_each_other_by_name_and_alias() {
    let world = World::new();
    world.docker(&["network", "create", "front"]).ok();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "-h",
            "web",
            "--network",
            "front",
            "--network-alias",
            "www",
            "busybox",
            "sh",
            "-c",
            SERVE,
        ])
        .ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let wget = |network: &str, name: &str| {
        world.docker(&["run", "--rm", "--network", network, "busybox", "wget", "-qO-", &format!("http://{name}/")])
    };
    assert_eq!(wget("front", "web").ok(), "page of web");
    assert_eq!(wget("front", "www").ok(), "page of web");
    // By the address that configurations name, over both protocols.
    let servers = world.docker(&["run", "--rm", "--network", "front", "busybox", "cat", "/etc/resolv.conf"]).ok();
    assert!(servers.starts_with("nameserver 127.0.0.11\n") && servers.contains("ndots:0"), "{servers}");
    let asked = world.docker(&["exec", "web", "nslookup", "www", "127.0.0.11"]).ok();
    assert!(asked.contains("Name:\twww"), "{asked}");
    let tcp = r"printf '\0\25\1\2\1\0\0\1\0\0\0\0\0\0\3www\0\0\1\0\1' | busybox nc -w 2 127.0.0.11 53 | od -An -tx1";
    let answered = world.docker(&["exec", "web", "sh", "-c", tcp]).ok();
    assert!(answered.contains("01 02 81 80 00 01 00 01"), "{answered}");
    assert_ne!(wget("bridge", "web").code, 0);
    world.docker(&["network", "create", "back"]).ok();
    assert_ne!(wget("back", "web").code, 0);
    world.docker(&["network", "connect", "--alias", "behind", "back", "web"]).ok();
    assert_eq!(wget("back", "behind").ok(), "page of web");
    world.docker(&["network", "disconnect", "back", "web"]).ok();
    assert_ne!(wget("back", "web").code, 0);
    // What leads out of the network it was made in leads out of another when it leaves that.
    world.docker(&["network", "connect", "back", "web"]).ok();
    world.docker(&["network", "disconnect", "front", "web"]).ok();
    let gateway = world.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "back"]).ok();
    let routes = world.docker(&["exec", "web", "ip", "route"]).ok();
    assert!(routes.contains(&format!("default via {gateway} dev eth1")), "{routes}");
    // And is told names of the networks that it is in by then, as is one that was in none with names before.
    assert!(world.docker(&["exec", "web", "nslookup", "web"]).ok().contains("Name:\tweb"));
    world.docker(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]).ok();
    assert_ne!(world.docker(&["exec", "plain", "nslookup", "web"]).code, 0);
    world.docker(&["network", "connect", "back", "plain"]).ok();
    assert!(world.docker(&["exec", "plain", "nslookup", "web"]).ok().contains("Name:\tweb"));
    world.docker(&["rm", "-f", "plain"]).ok();
    world.docker(&["network", "connect", "front", "web"]).ok();
    assert!(world.docker(&["network", "rm", "front"]).fails(1).contains("has active endpoints"));
    world.docker(&["rm", "-f", "web"]).ok();
    world.docker(&["network", "rm", "front", "back"]).ok();
}

#[test]
fn a_network_namespace_may_be_shared_or_missing() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "web", "-h", "web", "busybox", "sh", "-c", SERVE]).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let shared =
        world.docker(&["run", "--rm", "--network", "container:web", "busybox", "wget", "-qO-", "http://127.0.0.1/"]);
    assert_eq!(shared.ok(), "page of web");
    let links = world.docker(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]).ok();
    assert_eq!(links, "lo");
    let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(world.docker(&["run", "--rm", "--network", "host", "busybox", "hostname"]).ok(), own);
    let linked = world.docker(&["run", "--rm", "--link", "web:db", "busybox", "wget", "-qO-", "http://db/"]);
    assert_eq!(linked.ok(), "page of web");
}

#[test]
fn networks_are_kept_from_each_other_but_for_published_ports() {
    let world = World::new();
    world.docker(&["network", "create", "front"]).ok();
    world.docker(&["run", "-d", "--name", "web", "-h", "web", "-p", "80", "busybox", "sh", "-c", SERVE]).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let ip = world.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).ok();
    let wget = |network: &str, from: &str| {
        let url = format!("http://{from}/");
        let script = format!("wget -qO- {url} & p=$!; (sleep 2; kill $p) & wait $p");
        world.docker(&["run", "--rm", "--network", network, "busybox", "sh", "-c", &script])
    };
    assert_eq!(wget("bridge", &ip).ok(), "page of web");
    assert_ne!(wget("front", &ip).code, 0);
    let port = world.docker(&["port", "web", "80"]).ok();
    let port = port.rsplit(':').next().unwrap().to_owned();
    let gateway = world.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "front"]).ok();
    assert_eq!(wget("front", &format!("{gateway}:{port}")).ok(), "page of web");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let world = World::new();
    world.docker(&["network", "create", "--internal", "inner"]).ok();
    let run =
        ["run", "-d", "--name", "web", "-h", "web", "--network", "inner", "-p", "80", "busybox", "sh", "-c", SERVE];
    world.docker(&run).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    assert_eq!(world.docker(&["port", "web"]).ok(), "");
    let routes = world.docker(&["exec", "web", "ip", "route"]).ok();
    assert!(!routes.contains("default"), "{routes}");
    let page = world.docker(&["run", "--rm", "--network", "inner", "busybox", "wget", "-qO-", "http://web/"]);
    assert_eq!(page.ok(), "page of web");
    let asked = world.docker(&["exec", "web", "nslookup", "example.org"]);
    assert!(asked.code != 0 && format!("{asked:?}").contains("SERVFAIL"), "{asked:?}");
    // With a second network there is one.
    world.docker(&["network", "connect", "bridge", "web"]).ok();
    let routes = world.docker(&["exec", "web", "ip", "route"]).ok();
    assert!(routes.contains("default via") && routes.contains("dev eth1"), "{routes}");
}

#[test]
fn a_link_on_the_default_network_is_a_name_and_variables() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "db", "--expose", "80", "-e", "WHO=me", "busybox", "sleep", "1000"]).ok();
    let address = world.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db"]).ok();
    let script = "echo $STORE_PORT_80_TCP_ADDR $STORE_PORT $STORE_ENV_WHO $STORE_NAME; ping -c 1 store > /dev/null && echo there";
    let said =
        world.docker(&["run", "--rm", "--name", "web", "--link", "db:store", "busybox", "sh", "-c", script]).ok();
    assert_eq!(said, format!("{address} tcp://{address}:80 me /web/store\nthere"));
}

#[test]
fn who_shares_a_network_shares_its_names() {
    let world = World::new();
    world
        .docker(&["run", "-d", "--name", "one", "-h", "first", "--add-host", "x:1.2.3.4", "busybox", "sleep", "1000"])
        .ok();
    let script = "hostname; grep 1.2.3.4 /etc/hosts";
    let said = world.docker(&["run", "--rm", "--network", "container:one", "busybox", "sh", "-c", script]).ok();
    assert_eq!(said, "first\n1.2.3.4\tx");
}

#[test]
fn containers_get_their_addresses_from_the_range_for_them() {
    let world = World::new();
    let (subnet, part) = world.subnet();
    world.docker(&["network", "create", "--subnet", &subnet, "--ip-range", &part, "few"]).ok();
    let shown = world.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).IPRange}}", "few"]).ok();
    assert_eq!(shown, part);
    let mut addresses = Vec::new();
    for name in ["one", "two"] {
        world.docker(&["run", "-d", "--name", name, "--network", "few", "busybox", "sleep", "1000"]).ok();
        addresses.push(world.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.few.IPAddress}}", name]).ok());
    }
    let base = part.strip_suffix("4/31").unwrap();
    assert_eq!(addresses, [format!("{base}4"), format!("{base}5")]);
    let full = world.docker(&["run", "--rm", "--network", "few", "busybox", "true"]).fails(125);
    assert!(full.contains("no available IPv4 addresses"), "{full}");
    // The smallest ranges have room for one beside the gateway.
    let prefix = subnet.strip_suffix("128/25").unwrap();
    for (range, gateway, own) in [("0/30", "1", "2"), ("8/31", "8", "9")] {
        world.docker(&["network", "create", "--subnet", &format!("{prefix}{range}"), "tiny"]).ok();
        world.docker(&["run", "-d", "--name", "only", "--network", "tiny", "busybox", "sleep", "1000"]).ok();
        let shown = "{{.NetworkSettings.Networks.tiny.IPAddress}} {{.NetworkSettings.Networks.tiny.Gateway}}";
        assert_eq!(world.docker(&["inspect", "-f", shown, "only"]).ok(), format!("{prefix}{own} {prefix}{gateway}"));
        world.docker(&["exec", "only", "ping", "-c", "1", &format!("{prefix}{gateway}")]).ok();
        assert!(world.docker(&["exec", "only", "nslookup", "only"]).ok().contains(&format!("{prefix}{own}")));
        let full = world.docker(&["run", "--rm", "--network", "tiny", "busybox", "true"]).fails(125);
        assert!(full.contains("no available IPv4 addresses"), "{full}");
        world.docker(&["rm", "-f", "only"]).ok();
        world.docker(&["network", "rm", "tiny"]).ok();
    }
    let narrow = world.docker(&["network", "create", "--subnet", "192.168.211.0/32", "no"]).fails(1);
    assert!(narrow.contains("invalid subnet 192.168.211.0/32"), "{narrow}");
    let outside = world.docker(&["network", "create", "--subnet", &subnet, "--ip-range", "1.2.3.0/28", "no"]).fails(1);
    assert!(outside.contains("no matching subnet for range 1.2.3.0/28"), "{outside}");
}

#[test]
fn a_network_may_keep_its_own_containers_apart() {
    let world = World::new();
    world.docker(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "alone"]).ok();
    let serve = ["run", "-d", "--name", "web", "--network", "alone", "busybox", "sh", "-c", SERVE];
    world.docker(&serve).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let ask = |network: &str, timeout: &str| {
        let get = format!("timeout {timeout} wget -qO- http://web/ || echo nothing came");
        world.docker(&["run", "--rm", "--network", network, "busybox", "sh", "-c", &get]).ok()
    };
    assert_eq!(ask("alone", "1"), "nothing came");
    let wrong = world.docker(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=perhaps", "x"]);
    assert!(wrong.fails(1).contains("invalid syntax"));
}

#[test]
fn a_container_has_the_hardware_address_it_asked_for() {
    let world = World::new();
    let mac = "02:42:ac:11:00:09";
    let look = ["sh", "-c", "cat /sys/class/net/eth0/address; sleep 1000"];
    world.docker(&[&["run", "-d", "--name", "known", "--mac-address", mac, "busybox"][..], &look].concat()).ok();
    world.until(&["logs", "known"], mac);
    let format = "{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}";
    assert_eq!(world.docker(&["inspect", "-f", format, "known"]).ok(), mac);
    world.docker(&["restart", "-t", "0", "known"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", format, "known"]).ok(), mac);
    assert!(world.docker(&["run", "--rm", "--mac-address", "nonsense", "busybox", "true"]).fails(125).contains("mac"));
}

#[test]
fn a_network_may_have_addresses_of_both_kinds() {
    let world = World::new();
    let second = world.subnet().0.split('.').nth(2).unwrap().to_owned();
    let range = format!("fd00:{}:{second}::/64", std::process::id() % 10_000);
    let first = range.trim_end_matches("/64");
    world.docker(&["network", "create", "--ipv6", "--subnet", &range, "both"]).ok();
    let shown = "{{.EnableIPv6}} {{(index .IPAM.Config 1).Subnet}} {{(index .IPAM.Config 1).Gateway}}";
    assert_eq!(world.docker(&["network", "inspect", "-f", shown, "both"]).ok(), format!("true {range} {first}1"));
    world.docker(&["run", "-d", "--name", "web", "--network", "both", "busybox", "sleep", "1000"]).ok();
    let shown = "{{with .NetworkSettings.Networks.both}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";
    let address = world.docker(&["inspect", "-f", shown, "web"]).ok();
    let (address, gateway) = address.split_once("/64 ").expect("an address of IPv6");
    assert_eq!(gateway, format!("{first}1"));
    let ask = |command: &str| world.docker(&["run", "--rm", "--network", "both", "busybox", "sh", "-c", command]).ok();
    assert!(ask("nslookup web").contains(&format!("Address: {address}")));
    ask("ping -c 1 -6 web");
    assert!(ask("ip -6 route").contains(&format!("default via {first}1 dev eth0")));
    let chosen = format!("{first}77");
    let seen = ["run", "--rm", "--network", "both", "--ip6", &chosen, "busybox", "cat", "/etc/hosts"];
    assert!(world.docker(&seen).ok().contains(&format!("{chosen}\t")));
    let text = world.docker(&["run", "--rm", "--network", "both", "--ip6", address, "busybox", "true"]).fails(125);
    assert!(text.contains("Address already in use"), "{text}");
    let text = world.docker(&["network", "create", "--ipv6", "--subnet", &range, "again"]).fails(1);
    assert!(text.contains("Pool overlaps with other one on this address space"), "{text}");
}

#[test]
fn what_a_network_cannot_be_or_give_is_refused_in_dockers_words() {
    let world = World::new();
    let own = world.subnet().0;
    world.docker(&["network", "create", "--subnet", &own, "mine"]).ok();
    let outside = own.replace(".128/25", ".9");
    let run = |args: &[&str]| world.docker(&[&["run", "--rm"][..], args, &["busybox", "true"]].concat()).fails(125);
    let refused = run(&["--network", "mine", "--ip", &outside]);
    let words = "invalid config for network mine: invalid endpoint settings:\nno configured subnet contains IP address";
    assert!(refused.contains(&format!("{words} {outside}")), "{refused}");
    assert!(run(&["--ip", &outside]).contains("user specified IP address is supported on user defined networks only"));
    assert!(
        run(&["--network", "container:nobody"]).contains("joining network namespace of container: No such container")
    );
    let refused = world.docker(&["network", "create", "--ipam-driver", "other", "x"]).fails(1);
    assert!(refused.contains("could not find plugin other in v2 plugin system"), "{refused}");
    assert!(world.docker(&["network", "ls", "-f", "type=x"]).fails(1).contains("invalid filter: 'type'='x'"));
    world.docker(&["network", "create", "auto"]).ok();
    world.docker(&["run", "-d", "--name", "one", "--network", "mine", "busybox", "sleep", "99"]).ok();
    world.docker(&["run", "-d", "--name", "two", "--network", "mine", "busybox", "sleep", "99"]).ok();
    let refused = world.docker(&["network", "connect", "--ip", "1.2.3.4", "auto", "one"]).fails(1);
    assert!(refused.contains("only when connecting to networks with user configured subnets"), "{refused}");
    let refused = world.docker(&["network", "rm", "mine"]).fails(1);
    assert!(refused.contains("(name:\"one\" id:\"") && refused.contains("\", name:\"two\" id:\""), "{refused}");
    // Its namespace is where it says.
    let key = world.docker(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "one"]).ok();
    assert!(std::fs::File::open(&key).is_ok(), "{key}");
}

#[test]
fn a_network_may_have_addresses_of_ipv6_alone() {
    let mut world = World::new();
    let second = world.subnet().0.split('.').nth(2).unwrap().to_owned();
    let range = format!("fd01:{}:{second}::/64", std::process::id() % 10_000);
    let first = range.trim_end_matches("/64");
    let refused = world.docker(&["network", "create", "--ipv4=false", "neither"]).fails(1);
    assert!(refused.contains("IPv4 or IPv6 must be enabled"), "{refused}");
    world.docker(&["network", "create", "--ipv4=false", "--ipv6", "--subnet", &range, "six"]).ok();
    let shown = "{{.EnableIPv4}} {{.EnableIPv6}} {{len .IPAM.Config}} {{(index .IPAM.Config 0).Subnet}}";
    assert_eq!(world.docker(&["network", "inspect", "-f", shown, "six"]).ok(), format!("false true 1 {range}"));
    let run = ["run", "-d", "--name", "web", "-h", "web", "--network", "six", "-p", "80", "busybox", "sh", "-c"];
    let serve = SERVE.replace("-p 80", "-p [::]:80");
    world.docker(&[&run[..], &[&serve]].concat()).ok();
    world.until(&["exec", "web", "ls", "/up"], "/up");
    let shown = "{{with .NetworkSettings.Networks.six}}{{.IPAddress}}|{{.Gateway}}|{{.IPPrefixLen}}|{{.IPv6Gateway}}|{{.GlobalIPv6Address}}{{end}}";
    let told = world.docker(&["inspect", "-f", shown, "web"]).ok();
    let address = told.strip_prefix(&format!("||0|{first}1|")).expect("no address of IPv4").to_owned();
    // Its links have none, and its names are asked for where they always are.
    assert_eq!(world.docker(&["exec", "web", "ip", "-4", "-o", "addr", "show", "eth0"]).ok(), "");
    let ask = |command: &str| world.docker(&["run", "--rm", "--network", "six", "busybox", "sh", "-c", command]).ok();
    let found = ask("cat /etc/resolv.conf; nslookup web; nslookup -type=a web");
    assert!(found.contains("nameserver 127.0.0.11"), "{found}");
    assert_eq!(found.matches(&format!("Address: {address}")).count(), 1, "{found}");
    ask("ping -c 1 -6 web");
    assert!(world.docker(&["exec", "web", "cat", "/etc/hosts"]).ok().contains(&format!("{address}\tweb")));
    // The port is one of IPv6, as the container is.
    let port = world.docker(&["port", "web", "80"]).ok();
    let port = port.strip_prefix("[::]:").expect("one line").to_owned();
    assert_eq!(page_at("[::1]", &port), "page of web");
    world.crash_and_restart();
    assert_eq!(page_at("[::1]", &port), "page of web");
    let found = world.docker(&["run", "--rm", "--network", "six", "busybox", "nslookup", "web"]).ok();
    assert!(found.contains(&format!("Address: {address}")), "{found}");
    // Beside another network it is the way out of IPv6, and that one of IPv4.
    world.docker(&["network", "create", "four"]).ok();
    world
        .docker(&["run", "-d", "--name", "two", "--network", "six", "--network", "four", "busybox", "sleep", "99"])
        .ok();
    let inside = |command: &[&str]| world.docker(&[&["exec", "two"][..], command].concat()).ok();
    assert!(inside(&["ip", "route"]).contains("default via") && inside(&["ip", "-6", "route"]).contains("default via"));
    let refused = world.docker(&["run", "--rm", "--network", "six", "--ip", "10.9.9.9", "busybox", "true"]).fails(125);
    assert!(refused.contains("no configured subnet contains IP address 10.9.9.9"), "{refused}");
    // A container that runs may come to it later.
    world.docker(&["run", "-d", "--name", "late", "--network", "four", "busybox", "sleep", "99"]).ok();
    world.docker(&["network", "connect", "six", "late"]).ok();
    world.docker(&["exec", "late", "ping", "-c", "1", "-6", &address]).ok();
}

#[test]
fn a_link_leads_to_a_container_whatever_its_name_and_address_are_by_now() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    world.docker(&["run", "-d", "--name", "two", "--link", "one:db", "busybox", "sleep", "1000"]).ok();
    let address = || world.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "one"]).ok();
    let known = || world.docker(&["exec", "two", "sh", "-c", "grep -w db /etc/hosts"]).ok();
    let before = address();
    assert!(known().starts_with(&format!("{before}\tdb ")), "{}", known());
    world.docker(&["stop", "-t", "0", "one"]).ok();
    // Somebody else takes the address meanwhile.
    world.docker(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).ok();
    world.docker(&["rename", "one", "first"]).ok();
    world.docker(&["start", "first"]).ok();
    let now = world.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "first"]).ok();
    assert!(known().starts_with(&format!("{now}\tdb ")), "{} {before} {now}", known());
    world.docker(&["restart", "-t", "0", "two"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.HostConfig.Links}}", "two"]).ok(), "[/first:/two/db]");
}

#[test]
fn contrary_options_are_refused_before_anything_is_looked_up() {
    let world = World::new();
    for (options, said) in [
        (&["--network", "container:other", "-p", "8080"][..], "port publishing and the container type network mode"),
        (&["--network", "container:other", "--expose", "80"], "port exposing and the container type network mode"),
        (&["--network", "container:other", "--dns", "192.0.2.1"], "dns and the network mode"),
        (&["--network", "host", "--link", "zip:zap"], "host type networking can't be used with links"),
        (&["--network", "container"], "invalid container format container:<name|id>"),
        (&["--cpu-shares", "-1"], "invalid CPU shares (-1): value must be a positive integer"),
        (&["--link", "nobody:alias"], "could not get container for nobody"),
        (&["-v", "named:/m:copy"], "invalid mode: copy"),
        (&["--isolation", "vm"], "invalid isolation (vm): linux only supports 'default'"),
        (&["--cpu-rt-runtime", "1000"], "kernel does not support CPU real-time scheduler"),
        (&["-w", "/bin/busybox"], "Cannot mkdir: /bin/busybox is not a directory"),
    ] {
        let text = world.docker(&[&["create"], options, &["busybox", "true"]].concat()).fails(1);
        assert!(text.contains(said), "{options:?}: {text}");
    }
    assert_eq!(world.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_containers_link_has_the_name_and_the_settings_that_were_asked_for() {
    let world = World::new();
    let network = "name=bridge,\"driver-opt=com.docker.network.endpoint.ifname=front\",\
                   \"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1\"";
    let look = ["cat", "/proc/sys/net/ipv4/conf/front/log_martians"];
    assert_eq!(world.docker(&[&["run", "--rm", "--network", network, "busybox"], &look[..]].concat()).ok(), "1");
    world.docker(&["network", "create", "other"]).ok();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    let option = "com.docker.network.endpoint.ifname=back";
    world.docker(&["network", "connect", "--driver-opt", option, "other", "up"]).ok();
    assert_eq!(world.docker(&["exec", "up", "ls", "/sys/class/net"]).ok(), "back\neth0\nlo");
    let wrong = "name=bridge,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1";
    let text = world.docker(&["run", "--rm", "--network", wrong, "busybox", "true"]).fails(125);
    assert!(text.contains("unrecognised network interface sysctl 'net.ipv4.ip_forward=1'"), "{text}");
    for (options, said) in [
        (&["-o", "com.docker.network.bridge.gateway_mode_ipv4=odd"][..], "unknown gateway mode odd"),
        (&["-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated"], "only be used for an internal network"),
        (&["--subnet", "10.9.0.5/24"], "invalid subnet 10.9.0.5/24: it should be 10.9.0.0/24"),
        (&["--subnet", "10.9.0.0/24", "--subnet", "10.8.0.0/24"], "doesn't support multiple subnets"),
    ] {
        let text = world.docker(&[&["network", "create"], options, &["no"]].concat()).fails(1);
        assert!(text.contains(said), "{options:?}: {text}");
    }
}

#[test]
fn containers_of_an_isolated_network_have_each_other_and_nobody_else() {
    let mut world = World::new();
    let bridge = format!("iso-{}", std::process::id());
    let mode = |family: &str| format!("com.docker.network.bridge.gateway_mode_ipv{family}=isolated");
    let (four, six, name) = (mode("4"), mode("6"), format!("com.docker.network.bridge.name={bridge}"));
    let options = ["--internal", "--ipv6", "-o", &four, "-o", &six, "-o", &name, "isolated"];
    world.docker(&[&["network", "create"], &options[..]].concat()).ok();
    let of = |world: &World, format: &str| world.docker(&["network", "inspect", "-f", format, "isolated"]).ok();
    let gateways = of(&world, "{{range .IPAM.Config}}{{.Subnet}}={{.Gateway}} {{end}}");
    assert!(gateways.matches("= ").count() == 1 && gateways.ends_with('='), "{gateways}");
    let addresses = || {
        let shown = std::process::Command::new("busybox").args(["ip", "-o", "addr", "show", "dev", &bridge]).output();
        String::from_utf8(shown.unwrap().stdout).unwrap()
    };
    assert!(!addresses().contains("inet"), "{}", addresses());
    let server = ["--network", "isolated", "busybox", "httpd", "-f", "-h", "/etc"];
    world.docker(&[&["run", "-d", "--name", "web", "--hostname", "there"], &server[..]].concat()).ok();
    // By its name, asked for where programs expect a name server, and on both families.
    let look = "wget -qO- http://web/hostname && nslookup web 127.0.0.11 | grep -c ^Address";
    let ask = |world: &World| world.docker(&["run", "--rm", "--network", "isolated", "busybox", "sh", "-c", look]).ok();
    assert_eq!(ask(&world), "there\n3");
    let six = world.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.isolated.GlobalIPv6Address}}", "web"]).ok();
    let url = format!("http://[{six}]/hostname");
    assert_eq!(world.docker(&["run", "--rm", "--network", "isolated", "busybox", "wget", "-qO-", &url]).ok(), "there");
    // A container that goes on without the engine has its names again with the next.
    let stay = ["run", "-d", "--name", "stay", "--network", "isolated", "busybox", "sleep", "1000"];
    world.docker(&stay).ok();
    world.crash_and_restart();
    assert_eq!(world.docker(&["exec", "stay", "wget", "-qO-", "http://web/hostname"]).ok(), "there");
    // Beside another network that one's gateway answers, as long as it is there.
    world.docker(&["network", "create", "other"]).ok();
    for change in ["connect", "disconnect"] {
        world.docker(&["network", change, "other", "stay"]).ok();
        assert_eq!(world.docker(&["exec", "stay", "wget", "-qO-", "http://web/hostname"]).ok(), "there", "{change}");
    }
    // Of a range of two, both addresses are containers'.
    let (_, two) = world.subnet();
    let pair = ["--internal", "-o", "com.docker.network.bridge.inhibit_ipv4=true", "--subnet", &two, "pair"];
    world.docker(&[&["network", "create"], &pair[..]].concat()).ok();
    world.docker(&["run", "-d", "--name", "one", "--network", "pair", "busybox", "sleep", "1000"]).ok();
    world.docker(&["run", "--rm", "--network", "pair", "busybox", "ping", "-c1", "one"]).ok();
}

#[test]
fn a_bridge_has_the_name_and_the_largest_packet_that_were_asked_for() {
    let world = World::new();
    let name = format!("br-{}", std::process::id());
    let option = format!("com.docker.network.bridge.name={name}");
    let mtu = "com.docker.network.driver.mtu=1280";
    world.docker(&["network", "create", "-o", &option, "-o", mtu, "named"]).ok();
    let on_host = format!("/sys/class/net/{name}/bridge");
    assert!(std::path::Path::new(&on_host).exists());
    let look = ["run", "--rm", "--network", "named", "busybox", "cat", "/sys/class/net/eth0/mtu"];
    assert_eq!(world.docker(&look).ok(), "1280");
    let said = world.docker(&["network", "create", "-o", &option, "again"]).fails(1);
    assert!(said.contains("networks have same bridge name"), "{said}");
    let said = world.docker(&["network", "create", "-o", "com.docker.network.bridge.name=lo", "lo"]).fails(1);
    assert!(said.contains("exists already"), "{said}");
    world.docker(&["network", "rm", "named"]).ok();
    assert!(!std::path::Path::new(&on_host).exists());
}

#[test]
fn a_network_that_is_only_a_configuration_is_what_others_are_made_of() {
    let world = World::new();
    let (subnet, _) = world.subnet();
    let config = ["network", "create", "--config-only", "--subnet", &subnet, "--label", "of=config", "--opt"];
    world.docker(&[&config[..], &["com.docker.network.driver.mtu=1400", "plan"]].concat()).ok();
    let format = "{{.Driver}} {{.ConfigOnly}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.of}}";
    assert_eq!(world.docker(&["network", "inspect", "-f", format, "plan"]).ok(), format!("null true {subnet} config"));
    let said = world.docker(&["run", "--rm", "--network", "plan", "busybox", "true"]).fails(125);
    assert!(said.contains("cannot create endpoint on configuration-only network"), "{said}");
    for (more, words) in [
        (&["--config-from", "nothing"][..], "configuration network \"nothing\" does not exist"),
        (&["--config-from", "plan", "--label", "a=b"], "user specified configurations are not supported"),
        (&["--config-from", "plan", "--opt", "a=b"], "network driver options are not supported"),
        (&["--config-only", "--internal"], "configuration network can only contain network specific fields"),
        (&["--config-only", "--config-from", "plan"], "cannot depend on another configuration network"),
    ] {
        let said = world.docker(&[&["network", "create"][..], more, &["refused"]].concat()).fails(1);
        assert!(said.contains(words), "{said}");
    }
    world.docker(&["network", "create", "--config-from", "plan", "made"]).ok();
    let format = "{{.Driver}} {{.ConfigFrom.Network}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.of}}";
    assert_eq!(
        world.docker(&["network", "inspect", "-f", format, "made"]).ok(),
        format!("bridge plan {subnet} config")
    );
    let mtu = world.docker(&["run", "--rm", "--network", "made", "busybox", "cat", "/sys/class/net/eth0/mtu"]).ok();
    assert_eq!(mtu, "1400");
    let said = world.docker(&["network", "rm", "plan"]).fails(1);
    assert!(said.contains("configuration network \"plan\" is in use"), "{said}");
    world.docker(&["network", "prune", "-f"]).ok();
    assert_eq!(world.docker(&["network", "ls", "-q", "-f", "type=custom", "--format", "{{.Name}}"]).ok(), "plan");
    world.docker(&["network", "rm", "plan"]).ok();
}
