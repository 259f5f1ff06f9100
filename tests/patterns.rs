//! The patterns, Ingress and the Gateway API as their users have them: stock kubectl, curl and redis-cli.

use std::{fs, path::Path, process::Command};

use crate::{
    cluster::{Cluster, busybox, eventually, text},
    docker,
};

mod beside;
mod changes;
mod containers;
mod experiment;
mod limits;
mod pages;
mod search;
mod sharing;
mod software;
mod three_tiers;

/// The example of that name, as it is printed, with images that this machine has.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/patterns").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Applies text as it is, comments included.
pub fn apply(cluster: &Cluster, yaml: &str) {
    let output = cluster.pipe(&["apply", "-f", "-"], yaml);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// One request; the answer's body and the status.
pub fn curl(arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--noproxy", "*", "-s", "-m", "10", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let all = text(&output.stdout);
    let (body, status) = all.rsplit_once('\n').unwrap_or(("", "000"));
    (body.trim_end().to_owned(), status.to_owned())
}

/// Pods of a web server that says its own name, and a Service before them.
fn web(name: &str, replicas: u8) -> String {
    let pod = format!(
        r#"      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, "mkdir -p /tmp/www/api/v1; echo {name} > /tmp/www/index.html; echo '{{\"items\": [\"{name}\"]}}' > /tmp/www/api/v1/search; cp /tmp/www/index.html /tmp/www/other; exec httpd -f -p 8080 -h /tmp/www"]
        readinessProbe: {{httpGet: {{path: /index.html, port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{exec: {{command: [sleep, '2']}}}}}}
"#
    );
    software::served(name, replicas, &pod)
}

pub fn wait_for(cluster: &Cluster, what: &str, condition: &str) {
    cluster.kubectl(&["wait", &format!("--for=condition={condition}"), what, "--timeout=90s"]);
}

#[test]
fn the_image_of_the_pattern_containers_comes_with_the_program() {
    let cluster = Cluster::prepare();
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the socket", || socket.exists());
    // Nobody asked yet, so there is nothing.
    assert!(!cluster.hythe(&["image", "ls"]).contains("hythe.dev/patterns"));
    let help = docker::succeed(&cluster, &["run", "--rm", "hythe.dev/patterns", "scatter", "--help"]);
    assert!(help.contains("--leaf"), "{help}");
    let help = docker::succeed(&cluster, &["run", "--rm", "hythe.dev/patterns", "proxy", "--help"]);
    assert!(help.contains("Prox"), "{help}");
    let inspected = docker::succeed(&cluster, &["image", "inspect", "hythe.dev/patterns"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/hythe"]));
    assert!(config["ExposedPorts"]["9901/tcp"].is_object(), "{config}");
    assert!(config["Labels"]["dev.hythe.patterns.scatter.about"].is_string(), "{config}");
    // The same for other engines: an archive that docker load takes.
    let archive = cluster.scratch().join("patterns.tar");
    let name = cluster.hythe(&["image", "patterns", "--output", archive.to_str().unwrap()]);
    let loaded = docker::succeed(&cluster, &["load", "-i", archive.to_str().unwrap()]);
    assert!(loaded.contains(name.trim()), "{loaded}");
}

#[test]
fn what_a_pattern_needs_is_wired_and_told_of() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("client", "sleep 1000"));
    apply(&cluster, &(web("leaf-a", 1) + &web("leaf-b", 2)));
    apply(
        &cluster,
        "apiVersion: patterns.hythe.dev/v1\nkind: ScatterGather\nmetadata: {name: search}\nspec:\n  leaves: [{name: leaf-a}, {name: leaf-b}]\n",
    );
    wait_for(&cluster, "scattergather/search", "Ready");
    wait_for(&cluster, "deployment/leaf-b", "Available");
    let table = cluster.kubectl(&["get", "sg"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "LEAVES", "MERGE", "TIER", "READY", "ADDRESS", "AGE"]);
    assert_eq!(words[1][..3], ["search", "2", "Union"]);
    assert_eq!(words[1][4..6], ["True", "search.default.svc:80"]);
    let answer = || {
        let url = "http://search/api/v1/search";
        text(&cluster.try_kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", url]).stdout)
    };
    eventually("an answer of both leaves", || {
        let answer = answer();
        answer.contains("leaf-a") && answer.contains("leaf-b")
    });
    // The configuration is the user's to read, and follows the endpoints.
    let config = || cluster.jsonpath("configmap/search-config", r"{.data.config\.yaml}");
    let replicas = || config().matches(":8080").count() - 1;
    eventually("three replicas of two leaves", || replicas() == 3);
    cluster.kubectl(&["scale", "deployment/leaf-a", "--replicas=2"]);
    eventually("four replicas of two leaves", || replicas() == 4);
    // A change of the object changes what was made of it.
    cluster.kubectl(&["patch", "sg", "search", "--type=merge", "-p", "{\"spec\":{\"tier\":{\"replicas\":1}}}"]);
    cluster.until("deployment/search", "{.spec.replicas}", "1");
    let generation = cluster.jsonpath("sg/search", "{.metadata.generation}");
    cluster.until("sg/search", "{.status.observedGeneration}", &generation);
    // A Service that is not there is named.
    cluster.kubectl(&["delete", "service", "leaf-a"]);
    cluster.until("sg/search", "{.status.conditions[?(@.type==\"Ready\")].reason}", "BackendNotFound");
    let told = cluster.kubectl(&["describe", "sg", "search"]);
    assert!(told.contains("Service \"leaf-a\" not found"), "{told}");
    // What belongs to somebody else is left alone.
    cluster.kubectl(&["create", "service", "clusterip", "taken", "--tcp=80:80"]);
    apply(
        &cluster,
        "apiVersion: patterns.hythe.dev/v1\nkind: ScatterGather\nmetadata: {name: taken}\nspec:\n  leaves: [{name: leaf-b}]\n",
    );
    cluster.until("sg/taken", "{.status.conditions[?(@.type==\"Accepted\")].reason}", "NameTaken");
    assert_eq!(cluster.jsonpath("service/taken", "{.metadata.ownerReferences}"), "");
    // Everything goes with the object.
    cluster.kubectl(&["delete", "sg", "search", "taken"]);
    eventually("the end of what was made", || {
        let all = cluster.kubectl(&["get", "deployments,services,configmaps", "-o", "name"]);
        !all.contains("search")
    });
}

#[test]
fn bad_patterns_are_refused_with_the_field_that_is_wrong() {
    let cluster = Cluster::up();
    let refused = |yaml: &str| text(&cluster.pipe(&["apply", "-f", "-"], yaml).stderr);
    let kind = |kind: &str, spec: &str| {
        format!("apiVersion: patterns.hythe.dev/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    for (yaml, words) in [
        (kind("RequestSplit", "{backends: []}"), "spec.backends: Required value"),
        (kind("RequestSplit", "{backends: [{name: a}], port: 70000}"), "spec.port: Invalid value: 70000"),
        (kind("RequestSplit", "{backends: [{name: a}], sticky: {by: Mood}}"), "spec.sticky.by: Unsupported value"),
        (kind("RequestSplit", "{backends: [{name: a}], sticky: {by: Header}}"), "spec.sticky.name: Required value"),
        (kind("RequestSplit", "{backends: [{name: a}], colour: red}"), "unknown field \"spec.colour\""),
        (kind("ShardedService", "{shards: {}}"), "spec.shards: Required value"),
        (kind("ShardedService", "{hash: sha1, shards: {statefulSet: {name: a}}}"), "spec.hash: Unsupported value"),
        (kind("ScatterGather", "{leaves: [{name: a}], merge: TopK}"), "spec.top: Required value"),
        (kind("CacheTier", "{}"), "spec.service: Required value"),
        (kind("RateLimit", "{service: {name: a}, limit: {requests: 0}}"), "spec.limit.requests: Invalid value: 0"),
        (kind("Sidecar", "{selector: {}}"), "spec.containers: Required value"),
    ] {
        let said = refused(&yaml);
        assert!(said.contains(words), "{yaml}{said}");
    }
    let explained = cluster.kubectl(&["explain", "shardedservice.spec.shards.template"]);
    assert!(explained.contains("replicas") && explained.contains("volumeClaimTemplates"), "{explained}");
}

#[test]
fn pods_that_a_sidecar_selects_get_its_containers() {
    let cluster = Cluster::up();
    apply(&cluster, &example("sidecar.yaml"));
    wait_for(&cluster, "sidecar/beacon", "Ready");
    cluster.apply(&busybox("web", "sleep 1000"));
    cluster.wait_ready("pod/web");
    assert_eq!(cluster.jsonpath("pod/web", "{.spec.containers[*].name}"), "c beacon");
    assert_eq!(cluster.jsonpath("pod/web", "{.spec.shareProcessNamespace}"), "true");
    let annotation = r"{.metadata.annotations.patterns\.hythe\.dev/sidecars}";
    assert_eq!(cluster.jsonpath("pod/web", annotation), "beacon");
    cluster.apply(&busybox("other", "sleep 1000").replace("app: other", "app: db"));
    cluster.wait_ready("pod/other");
    assert_eq!(cluster.jsonpath("pod/other", "{.spec.containers[*].name}"), "c");
}

#[test]
fn an_ingress_leads_by_host_and_path_and_speaks_tls() {
    let cluster = Cluster::up();
    apply(&cluster, &(web("web", 2) + &web("api", 1)));
    // Nothing is there for the edge before it is asked for.
    assert!(!cluster.kubectl(&["get", "deployments", "-A", "-o", "name"]).contains("hythe-edge"));
    let (key, certificate) = (cluster.scratch().join("tls.key"), cluster.scratch().join("tls.crt"));
    let made = rcgen::generate_simple_self_signed(["web.example.com".to_owned()]).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    let (key, certificate) = (format!("--key={}", key.display()), format!("--cert={}", certificate.display()));
    cluster.kubectl(&["create", "secret", "tls", "web-tls", &key, &certificate]);
    apply(&cluster, &example("ingress.yaml"));
    eventually("the address of the Ingress", || {
        !cluster.jsonpath("ingress/web", "{.status.loadBalancer.ingress[0].ip}").is_empty()
    });
    let (http, https) = (cluster.edge_http(), cluster.edge_https());
    let get =
        |host: &str, path: &str| curl(&["-H", &format!("Host: {host}"), &format!("http://127.0.0.1:{http}{path}")]);
    eventually("the first answer", || get("web.example.com", "/index.html").1 == "200");
    assert_eq!(get("web.example.com", "/index.html").0, "web");
    assert_eq!(get("web.example.com", "/api/v1/search").0, "{\"items\": [\"api\"]}");
    assert_eq!(get("web.example.com", "/apix").1, "404", "a prefix is one of whole elements");
    assert_eq!(get("elsewhere.example.com", "/").1, "404");
    let resolve = format!("web.example.com:{https}:127.0.0.1");
    let ca = certificate.trim_start_matches("--cert=");
    let url = format!("https://web.example.com:{https}/index.html");
    let tls = curl(&["--cacert", ca, "--resolve", &resolve, &url]);
    assert_eq!(tls, ("web".to_owned(), "200".to_owned()));
    // A rollout of the application loses nothing.
    cluster.kubectl(&["rollout", "restart", "deployment/web"]);
    let mut rollout = cluster.spawn(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let mut asked = 0;
    while rollout.0.try_wait().unwrap().is_none() {
        let answer = get("web.example.com", "/index.html");
        assert_eq!(answer.1, "200", "request {asked}: {answer:?}");
        asked += 1;
    }
    assert!(asked > 0);
    // With the last Ingress the edge goes.
    cluster.kubectl(&["delete", "ingress", "--all"]);
    eventually("the end of the edge", || {
        !cluster.kubectl(&["get", "deployments", "-A", "-o", "name"]).contains("hythe-edge")
    });
}

#[test]
fn an_http_route_splits_by_weight_and_edits_on_the_way() {
    let cluster = Cluster::up();
    apply(&cluster, &(web("stable", 1) + &web("canary", 1)));
    apply(&cluster, &example("gateway.yaml"));
    wait_for(&cluster, "gateway/web", "Programmed");
    let parents = "{.status.parents[0].conditions[?(@.type==\"Accepted\")].status}";
    cluster.until("httproute/web", parents, "True");
    assert_eq!(cluster.jsonpath("gateway/web", "{.status.listeners[0].attachedRoutes}"), "1");
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", cluster.edge_http());
    let host = ["-H", "Host: shop.example.com"];
    let get = |more: &[&str], path: &str| curl(&[&host[..], more, &[&url(path)]].concat());
    eventually("the first answer", || get(&[], "/index.html").1 == "200");
    let mut canary = 0;
    for _ in 0..200 {
        let (body, status) = get(&[], "/index.html");
        assert_eq!(status, "200");
        canary += usize::from(body == "canary");
    }
    // 20 are expected of 200; fewer than 5 or more than 45 come once in a hundred thousand runs.
    assert!((5..=45).contains(&canary), "{canary} of 200 requests went to the canary");
    assert_eq!(get(&["-H", "X-Version: canary"], "/index.html").0, "canary");
    let told = "%{redirect_url}\n%{http_code}";
    let redirected = curl(&["-H", "Host: shop.example.com", "-o", "/dev/null", "-w", told, &url("/old")]);
    assert!(redirected.0.ends_with("/index.html") && redirected.1 == "301", "{redirected:?}");
    // A Service of another namespace needs a grant there.
    cluster.kubectl(&["create", "namespace", "apart"]);
    cluster.kubectl(&[
        "patch",
        "httproute",
        "web",
        "--type=json",
        "-p",
        r#"[{"op": "add", "path": "/spec/rules/0/backendRefs/-", "value": {"name": "x", "namespace": "apart", "port": 80}}]"#,
    ]);
    let resolved = "{.status.parents[0].conditions[?(@.type==\"ResolvedRefs\")].reason}";
    cluster.until("httproute/web", resolved, "RefNotPermitted");
}

#[test]
fn users_stay_at_their_side_of_a_split() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("client", "sleep 1000"));
    apply(&cluster, &(web("stable", 1) + &web("experiment", 1)));
    apply(&cluster, &example("request-split.yaml"));
    wait_for(&cluster, "requestsplit/web", "Ready");
    let node = cluster.jsonpath("service/web", "{.spec.ports[0].nodePort}");
    let url = format!("http://127.0.0.1:{node}/index.html");
    let as_user = |user: usize| curl(&["-H", &format!("X-User: user-{user}"), &url]);
    eventually("the first answer", || as_user(0).1 == "200");
    let side = |user| {
        let (body, status) = as_user(user);
        assert_eq!(status, "200");
        body
    };
    let first: Vec<String> = (0..100).map(side).collect();
    let second: Vec<String> = (0..100).map(side).collect();
    assert_eq!(first, second, "nobody flips");
    let experiment = first.iter().filter(|side| *side == "experiment").count();
    assert!((1..=30).contains(&experiment), "{experiment} of 100 users are in the experiment");
}

#[test]
fn redis_is_sharded_by_twemproxys_own_file() {
    let cluster = Cluster::up();
    cluster.import("redis-7", "redis:7");
    apply(&cluster, &example("sharded-redis.yaml"));
    wait_for(&cluster, "shardedservice/cache", "Ready");
    let node = cluster.jsonpath("service/cache", "{.spec.ports[0].nodePort}");
    let redis = |arguments: &[&str]| {
        let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &node]).args(arguments).output().unwrap();
        text(&output.stdout).trim().to_owned()
    };
    eventually("the first answer", || redis(&["set", "first", "1"]) == "OK");
    // What differs must not stand at a key's very end: twemproxy's 32 bits of FNV hardly move for it.
    for key in 0..60 {
        assert_eq!(redis(&["set", &format!("user-{key}-name"), &key.to_string()]), "OK");
    }
    for key in 0..60 {
        assert_eq!(redis(&["get", &format!("user-{key}-name")]), key.to_string());
    }
    let sizes: Vec<u32> = (0..3)
        .map(|i| {
            let pod = format!("cache-shard-{i}");
            cluster.kubectl(&["exec", &pod, "--", "redis-cli", "dbsize"]).trim().parse().unwrap()
        })
        .collect();
    assert_eq!(sizes.iter().sum::<u32>(), 61);
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
}
