//! A tenth of the users sees another nginx.

use super::{apply, curl, software, wait_for};
use crate::cluster::{Cluster, eventually};

fn nginx(name: &str) -> String {
    let config = format!(
        r#"---
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  nginx.conf: |
    daemon off; user root; error_log /dev/stderr; pid /tmp/nginx.pid;
    events {{}}
    http {{
      access_log off;
      client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
      uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
      server {{ listen 8080; location / {{ add_header X-Version {name}; return 200 "{name}\n"; }} }}
    }}
"#
    );
    let pod = format!(
        r#"      containers:
      - name: nginx
        image: nginx:1
        command: [/usr/sbin/nginx, -c, /conf/nginx.conf]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        volumeMounts: [{{name: conf, mountPath: /conf}}]
      volumes: [{{name: conf, configMap: {{name: {name}}}}}]
"#
    );
    config + &software::served(name, 2, &pod)
}

#[test]
fn a_tenth_of_the_users_sees_the_experiment_on_nginx_and_nobody_flips_when_it_grows() {
    let cluster = Cluster::up();
    software::import_programs(&cluster, "nginx:1", &[software::installed(&["/usr/sbin/nginx"])]);
    let split = "---
apiVersion: patterns.hythe.dev/v1
kind: RequestSplit
metadata: {name: web}
spec:
  backends: [{name: stable, weight: 90}, {name: experiment, weight: 10}]
  sticky: {by: Cookie, name: user}
  tier: {serviceType: NodePort}
";
    apply(&cluster, &(nginx("stable") + &nginx("experiment") + split));
    wait_for(&cluster, "deployment/stable", "Available");
    wait_for(&cluster, "deployment/experiment", "Available");
    wait_for(&cluster, "requestsplit/web", "Ready");
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let node = cluster.jsonpath("service/web", "{.spec.ports[0].nodePort}");
    let url = format!("http://127.0.0.1:{node}/");
    let side = |user: usize| curl(&["-b", &format!("user=number-{user}"), &url]);
    eventually("the first answer", || side(0).1 == "200");
    let all = || -> Vec<bool> {
        let seen = |user| match side(user) {
            (body, status) if status == "200" && body == "experiment" => true,
            (body, status) if status == "200" && body == "stable" => false,
            other => panic!("{other:?}"),
        };
        (0..300).map(seen).collect()
    };
    let first = all();
    let share = first.iter().filter(|seen| **seen).count();
    // 30 are expected; fewer than 12 or more than 52 come once in ten thousand names.
    assert!((12..=52).contains(&share), "{share} of 300 users are in the experiment");
    // Requests are not what is split: users are, whichever splitter and whichever nginx they meet.
    assert_eq!(all(), first);
    cluster.kubectl(&["rollout", "restart", "deployment/web", "deployment/stable", "deployment/experiment"]);
    for deployment in ["deployment/web", "deployment/stable", "deployment/experiment"] {
        cluster.kubectl(&["rollout", "status", deployment, "--timeout=90s"]);
    }
    assert_eq!(all(), first, "nobody flips when everything is replaced");
    let half = r#"{"spec": {"backends": [{"name": "stable", "weight": 0}, {"name": "experiment", "weight": 100}]}}"#;
    cluster.kubectl(&["patch", "requestsplit", "web", "--type=merge", "-p", half]);
    eventually("the experiment is over: all see it", || (0..20).all(|user| side(user).0 == "experiment"));
}
