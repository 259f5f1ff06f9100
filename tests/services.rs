//! Names and addresses that stay while pods come and go.

use crate::cluster::{Cluster, busybox, eventually, http_get};

fn web(name: &str) -> String {
    busybox(name, "hostname > /tmp/index.html; httpd -f -p 8080 -h /tmp").replace(&format!("app: {name}"), "app: web")
}

fn ask(cluster: &Cluster, url: &str) -> String {
    cluster.kubectl(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", url])
}

#[test]
fn a_service_is_reached_by_name_address_and_node_port() {
    let cluster = Cluster::up();
    cluster.apply(&(web("web-1") + &web("web-2") + &busybox("client", "sleep 1000")));
    let port = cluster.node_port(2);
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: NodePort, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080, nodePort: {port}}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: headless}}, spec: {{clusterIP: None, selector: {{app: web}}, ports: [{{name: http, port: 8080}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: outside}}, spec: {{type: ExternalName, externalName: web.default.svc.cluster.local}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: nobody}}, spec: {{selector: {{app: none}}, ports: [{{port: 80}}]}}}}"
    ));
    for pod in ["pod/web-1", "pod/web-2", "pod/client"] {
        cluster.wait_ready(pod);
    }
    let node = format!("127.0.0.1:{port}");
    eventually("the node port", || http_get(&node, "/").is_ok());
    let mut seen = std::collections::BTreeSet::new();
    eventually("both pods' answers", || {
        seen.insert(http_get(&node, "/").unwrap());
        seen.len() == 2
    });
    let address = cluster.jsonpath("service/web", "{.spec.clusterIP}");
    for url in [
        "http://web/",
        "http://web.default/",
        "http://web.default.svc.cluster.local/",
        &format!("http://{address}/"),
        "http://headless:8080/",
        "http://outside/",
    ] {
        assert!(ask(&cluster, url).starts_with("web-"), "{url}");
    }
    // A pod reaches itself through its own Service.
    cluster.kubectl(&[
        "exec",
        "web-1",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do timeout 5 wget -q -O /dev/null http://web/ || exit 1; done",
    ]);
    // The API itself, by the name that clients in pods use.
    let api = cluster.kubectl(&[
        "exec",
        "client",
        "--",
        "sh",
        "-c",
        "nc -w 3 kubernetes.default.svc 443 < /dev/null && echo reached",
    ]);
    assert!(api.contains("reached"));
    // Nobody there: refused at once, not after a timeout.
    let refused =
        cluster.kubectl_fails(&["exec", "client", "--", "timeout", "5", "wget", "-q", "-O", "-", "http://nobody/"]);
    assert!(refused.contains("refused") || refused.contains("unreachable"), "{refused}");
    // A pod that goes gets no more traffic.
    cluster.kubectl(&["delete", "pod", "web-1"]);
    for _ in 0..20 {
        assert_eq!(http_get(&node, "/").unwrap(), "web-2\n");
    }
}

#[test]
fn dns_answers_as_the_specification_says() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("client", "sleep 1000"));
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: db-0, labels: {app: db}}, spec: {terminationGracePeriodSeconds: 0, hostname: db-0, subdomain: db, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}");
    cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}}");
    cluster.wait_ready("pod/client");
    cluster.wait_ready("pod/db-0");
    let ip = cluster.jsonpath("pod/db-0", "{.status.podIP}");
    let lookup = |name: &str| {
        let output = cluster.try_kubectl(&["exec", "client", "--", "nslookup", name]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    eventually("the endpoint's own name", || lookup("db-0.db.default.svc.cluster.local").contains(&ip));
    assert!(lookup("db.default.svc.cluster.local").contains(&ip));
    assert!(
        lookup("nothing.default.svc.cluster.local").contains("NXDOMAIN")
            || lookup("nothing.default.svc.cluster.local").contains("can't find")
    );
    let own = cluster.kubectl(&["exec", "client", "--", "cat", "/etc/resolv.conf"]);
    assert!(own.contains("search default.svc.cluster.local svc.cluster.local cluster.local"), "{own}");
    assert!(own.contains("options ndots:5"), "{own}");
}
