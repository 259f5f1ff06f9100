//! CacheTier and RateLimit, from the object to the answer.

use super::{apply, curl, software, wait_for};
use crate::cluster::{Cluster, eventually};

const COUNTER: &str = r#"
count = {}
def get(self):
    path = self.path
    count[path] = count.get(path, 0) + 1
    age = path.split('/')[1]
    self.answer(f'{count[path]}', cache_control='max-age=600' if age == 'keep' else 'no-store')
serve(get)
"#;

/// Status, header fields and body of a request.
fn fields(arguments: &[&str]) -> (String, Vec<(String, String)>, String) {
    let (all, status) = curl(&[&["-i"], arguments].concat());
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    (status, fields.map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect(), body.to_owned())
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn before(cluster: &Cluster, kind: &str, yaml: &str) -> String {
    cluster.import("python-3-slim", "python:3-slim");
    apply(cluster, &(software::python("web", 1, &format!("{}{COUNTER}", software::SERVER)) + yaml));
    wait_for(cluster, "deployment/web", "Available");
    wait_for(cluster, &format!("{kind}/tier"), "Ready");
    cluster.kubectl(&["rollout", "status", "deployment/tier", "--timeout=90s"]);
    let node = cluster.jsonpath("service/tier", "{.spec.ports[0].nodePort}");
    let address = format!("http://127.0.0.1:{node}");
    eventually("the first answer", || curl(&[&format!("{address}/no/first")]).1 == "200");
    address
}

#[test]
fn a_cache_tier_answers_for_its_service_and_keeps_what_it_has_over_its_own_crash() {
    let cluster = Cluster::up();
    let address = before(
        &cluster,
        "cachetier",
        "---\napiVersion: patterns.hythe.dev/v1\nkind: CacheTier\nmetadata: {name: tier}\n\
         spec: {service: {name: web}, memory: 8Mi, disk: 16Mi, tier: {replicas: 1, serviceType: NodePort}}\n",
    );
    let table = cluster.kubectl(&["get", "ct", "tier"]);
    assert!(table.contains("True"), "{table}");
    for turn in 1..=3 {
        let url = format!("{address}/keep/a");
        let (status, fields, body) = fields(&[&url]);
        assert_eq!((status.as_str(), body.as_str()), ("200", "1"), "turn {turn}");
        let how = field(&fields, "cache-status").unwrap();
        assert_eq!(how, if turn == 1 { "tier; fwd=uri-miss; stored" } else { "tier; hit" });
        assert_eq!(field(&fields, "age").is_some(), turn > 1);
        assert_eq!(curl(&[&format!("{address}/no/b")]).0, turn.to_string(), "what must not be stored is not");
    }
    let pod = cluster.jsonpath("pods -l app.kubernetes.io/instance=tier", "{.items[0].metadata.name}");
    let metrics = || {
        let path = format!("/api/v1/namespaces/default/pods/{pod}:9901/proxy/metrics");
        cluster.kubectl(&["get", "--raw", &path])
    };
    eventually("it is on disk", || metrics().contains("hythe_proxy_cache_disk_entries{cache=\"tier\"} 1\n"));
    software::kill_container(&cluster, &pod);
    cluster.until(&format!("pod/{pod}"), "{.status.containerStatuses[0].restartCount}", "1");
    eventually("it answers again", || curl(&[&format!("{address}/no/c")]).1 == "200");
    let (_, fields, body) = fields(&[&format!("{address}/keep/a")]);
    assert_eq!((field(&fields, "cache-status"), body.as_str()), (Some("tier; hit; detail=disk"), "1"));
    // The Service's own Endpoints are followed.
    cluster.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    eventually("nobody answers", || curl(&[&format!("{address}/no/d")]).1 == "503");
    assert_eq!(curl(&[&format!("{address}/keep/a")]).0, "1", "what is fresh needs no server");
}

#[test]
fn a_purge_by_those_who_may_reaches_every_replica_of_a_cache_tier() {
    let cluster = Cluster::up();
    let tier = |purgers: &str| {
        format!(
            "---\napiVersion: patterns.hythe.dev/v1\nkind: CacheTier\nmetadata: {{name: tier}}\n\
             spec: {{service: {{name: web}}, memory: 8Mi, purgeFrom: [{purgers}], tier: {{replicas: 2, serviceType: NodePort}}}}\n"
        )
    };
    let address = before(&cluster, "cachetier", &tier("0.0.0.0/0"));
    let pods = || {
        let all = cluster.jsonpath("pods -l app.kubernetes.io/instance=tier", "{.items[*].status.podIP}");
        all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let replicas = pods();
    assert_eq!(replicas.len(), 2);
    let host = address.trim_start_matches("http://").to_owned();
    let how = |ip: &str| {
        let (_, fields, _) = fields(&["-H", &format!("Host: {host}"), &format!("http://{ip}:8080/keep/a")]);
        field(&fields, "cache-status").unwrap_or_default().to_owned()
    };
    replicas.iter().for_each(|ip| drop(how(ip)));
    assert!(replicas.iter().all(|ip| how(ip) == "tier; hit"));
    let purge = || curl(&["-X", "PURGE", &format!("{address}/keep/a")]);
    assert_eq!(purge(), ("purged 2".to_owned(), "200".to_owned()));
    assert!(replicas.iter().all(|ip| how(ip).contains("fwd=uri-miss")));
    // What is wrong is told of with its field; nobody may where nobody is named.
    let refused = cluster.pipe(&["apply", "-f", "-"], &tier("'10.0.0.0/99'"));
    assert!(crate::cluster::text(&refused.stderr).contains("spec.purgeFrom[0]"));
    apply(&cluster, &tier(""));
    eventually("nobody may purge", || purge().1 == "403");
    eventually("they need not find each other", || {
        !cluster.kubectl(&["get", "services", "-o", "name"]).contains("tier-peers")
    });
}

#[test]
fn replicas_of_a_rate_limit_count_together_and_know_who_shows_who_he_is() {
    let cluster = Cluster::up();
    let address = before(
        &cluster,
        "ratelimit",
        "---\napiVersion: patterns.hythe.dev/v1\nkind: RateLimit\nmetadata: {name: tier}\n\
         spec: {service: {name: web}, by: Header, header: X-User, limit: {requests: 10, periodSeconds: 3600, burst: 10},\n\
         authenticated: {limit: {requests: 30, periodSeconds: 3600, burst: 30}}, tier: {replicas: 2, serviceType: NodePort}}\n",
    );
    cluster.until("deployment/tier", "{.status.readyReplicas}", "2");
    let limited = |user: &str, more: &[&str]| {
        let user = format!("X-User: {user}");
        let url = format!("{address}/no/limited");
        fields(&[&["-H", &user], more, &[&url]].concat())
    };
    let passed =
        |user: &str, more: &[&str], asked: usize| (0..asked).filter(|_| limited(user, more).0 == "200").count();
    // The replicas have found each other once they count to ten together; each by itself would let twenty pass.
    let mut user = 0;
    eventually("ten of twenty-five pass, whichever replica is asked", || {
        user += 1;
        passed(&format!("early-{user}"), &[], 25) == 10
    });
    let (status, fields, _) = limited(&format!("early-{user}"), &[]);
    assert_eq!((status.as_str(), field(&fields, "x-ratelimit-remaining")), ("429", Some("0")));
    let wait: u64 = field(&fields, "retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    // A replica that gets no answer of the other in time counts by itself for a while, so on a busy machine as many more may
    // pass, never fewer.
    let alone = |passed: usize, allowed: usize| (allowed..=2 * allowed).contains(&passed);
    for user in ["ann", "bob", "cid"] {
        let passed = passed(user, &[], 25);
        assert!(alone(passed, 10), "{user}: {passed}");
    }
    let mut user = 0;
    eventually("who shows who he is may ask thirty times", || {
        user += 1;
        let known = passed(&format!("known-{user}"), &["-H", "Authorization: Bearer x"], 65);
        assert!(alone(known, 30), "{known}");
        known == 30
    });
    // Both replicas took part.
    let pods = cluster.jsonpath("pods -l app.kubernetes.io/instance=tier", "{.items[*].metadata.name}");
    for pod in pods.split_whitespace() {
        let path = format!("/api/v1/namespaces/default/pods/{pod}:9901/proxy/metrics");
        let metrics = cluster.kubectl(&["get", "--raw", &path]);
        let judged = metrics.lines().filter(|line| line.starts_with("hythe_proxy_limited_requests_total"));
        let judged: f64 = judged.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        assert!(judged > 0.0, "{pod} judged nothing");
    }
}
