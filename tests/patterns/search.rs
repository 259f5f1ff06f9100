//! A search over documents in nine shards, of which one has a replica that is slow.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{apply, software, wait_for};
use crate::cluster::{Cluster, eventually, http_get};

const LEAF: &str = r#"
shard = int(os.environ['NAME'].split('-')[1])
slow = socket.gethostname().endswith('-slow')
documents = [{'id': n, 'score': (n * 37) % 101} for n in range(180) if n % 9 == shard]
def get(self):
    if slow and self.path.startswith('/api'):
        time.sleep(20)
    wanted = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).get('below', ['1000'])[0]
    self.answer(json.dumps({'items': [d for d in documents if d['score'] < int(wanted)]}), content_type='application/json')
serve(get)
"#;

/// What the ten best of all documents are.
fn best() -> BTreeSet<u64> {
    let mut all: Vec<(u64, u64)> = (0..180).map(|n| ((n * 37) % 101, n)).collect();
    all.sort_by(|a, b| b.cmp(a));
    all.iter().take(10).map(|(score, _)| *score).collect()
}

#[test]
fn nine_leaves_answer_as_one_though_one_of_their_replicas_is_slow() {
    let cluster = Cluster::up();
    cluster.import("python-3-slim", "python:3-slim");
    let program = format!("{}{LEAF}", software::SERVER);
    let mut yaml = String::new();
    let mut leaves = Vec::new();
    for shard in 0..9 {
        yaml += &software::python(&format!("leaf-{shard}"), 1, &program);
        leaves.push(format!("{{name: leaf-{shard}}}"));
    }
    // The slow one is a pod of its own that leaf 4's Service selects too.
    yaml += "---
apiVersion: v1
kind: Pod
metadata: {name: leaf-4-slow, labels: {app: leaf-4}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: python:3-slim
    command: [python3, -u, /program/main.py]
    env: [{name: NAME, value: leaf-4}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: program, mountPath: /program}]
  volumes: [{name: program, configMap: {name: leaf-4-program}}]
";
    yaml += &format!(
        "---\napiVersion: patterns.hythe.dev/v1\nkind: ScatterGather\nmetadata: {{name: search}}\n\
         spec: {{leaves: [{}], merge: TopK, top: 10, field: score, deadlineMilliseconds: 3000, tier: {{replicas: 1, serviceType: NodePort}}}}\n",
        leaves.join(", ")
    );
    apply(&cluster, &yaml);
    for shard in 0..9 {
        wait_for(&cluster, &format!("deployment/leaf-{shard}"), "Available");
    }
    wait_for(&cluster, "pod/leaf-4-slow", "Ready");
    wait_for(&cluster, "scattergather/search", "Ready");
    let node = cluster.jsonpath("service/search", "{.spec.ports[0].nodePort}");
    let address = format!("127.0.0.1:{node}");
    let ask = || -> Value {
        let answer = http_get(&address, "/api/v1/search?below=1000");
        answer.ok().and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
    };
    let config = || cluster.jsonpath("configmap/search-config", r"{.data.config\.yaml}");
    eventually("ten replicas of nine leaves", || config().matches(":8080").count() == 11);
    eventually("all nine answer", || ask()["leaves"]["answered"] == 9);
    let scores = |answer: &Value| -> BTreeSet<u64> {
        answer["items"].as_array().unwrap().iter().map(|item| item["score"].as_u64().unwrap()).collect()
    };
    // An answer is whole, or says what it lacks.
    let whole = |answer: &Value| {
        let missing = answer["leaves"]["missing"].as_array().unwrap();
        assert_eq!(answer["partial"].as_bool().unwrap(), !missing.is_empty(), "{answer}");
        if missing.is_empty() {
            assert_eq!(scores(answer), best(), "{answer}");
        } else {
            assert!(missing.len() == 1 && missing[0]["name"] == "leaf-4", "{answer}");
        }
        missing.is_empty()
    };
    // The root learns how long a leaf takes; from then on a second replica is asked for what the first keeps.
    let mut in_a_row = 0;
    eventually("sixty whole answers in a row", || {
        in_a_row = if whole(&ask()) { in_a_row + 1 } else { 0 };
        in_a_row == 60
    });
    // The good replica goes: what is left is late, and the answer says so.
    cluster.kubectl(&["scale", "deployment/leaf-4", "--replicas=0"]);
    eventually("the slow replica alone", || config().matches(":8080").count() == 10);
    eventually("a partial answer", || !whole(&ask()));
    let output = super::curl(&["-i", &format!("http://{address}/api/v1/search")]);
    let head = output.0.to_ascii_lowercase();
    assert_eq!(output.1, "200");
    assert!(head.contains("x-partial-result: true") && head.contains("x-missing-leaves: leaf-4"), "{head}");
}
