//! Software of Debian's packages as images, and applications in Python.

use std::{fs, path::Path, process::Command};

use crate::cluster::{Cluster, text};

/// An image of programs that are installed on this machine, with the libraries they need and nothing else.
pub fn import_programs(cluster: &Cluster, image: &str, programs: &[&str]) {
    let root = cluster.scratch().join(image.replace(['/', ':'], "-"));
    for directory in ["tmp", "run", "var/log/nginx", "var/lib/nginx", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
    let copy = |file: &str| {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap_or_else(|error| panic!("{file}: {error}: run scripts/deps.sh test"));
    };
    for program in programs {
        copy(program);
        let needed = Command::new("ldd").arg(program).output().unwrap();
        for word in text(&needed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            copy(word);
        }
    }
    let archive = root.with_extension("tar");
    let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(packed.success());
    cluster.hythe(&["image", "import", archive.to_str().unwrap(), image]);
}

/// nginx as its users' image has it: started without a word, it serves what stands in `/etc/nginx/conf.d`.
pub fn import_nginx(cluster: &Cluster) {
    import_programs(cluster, "nginx-files:1", &[installed(&["/usr/sbin/nginx"])]);
    let config = "user root; error_log /dev/stderr; pid /tmp/nginx.pid; events {} http { access_log off;
        client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
        uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi; include /etc/nginx/conf.d/*.conf; }";
    let rest = "COPY nginx.conf /etc/nginx/nginx.conf\nCMD [\"/usr/sbin/nginx\", \"-g\", \"daemon off;\"]";
    build(cluster, "nginx:1", &format!("FROM nginx-files:1\n{rest}\n"), &[("nginx.conf", config)]);
}

/// Redis as its users' image has it: started without a word, it serves everybody who reaches it.
pub fn import_redis(cluster: &Cluster) {
    cluster.import("redis-7", "redis-files:7");
    let command = "CMD [\"redis-server\", \"--protected-mode\", \"no\", \"--save\", \"\"]";
    build(cluster, "redis:7", &format!("FROM redis-files:7\n{command}\n"), &[]);
}

fn build(cluster: &Cluster, image: &str, dockerfile: &str, files: &[(&str, &str)]) {
    let context = cluster.scratch().join(format!("context-{}", image.replace(':', "-")));
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    for (name, content) in files {
        fs::write(context.join(name), content).unwrap();
    }
    cluster.hythe(&["build", "-t", image, context.to_str().unwrap()]);
}

/// A Deployment whose pods listen on port 8080, as their specification (indented by six) says, and a Service before them.
pub fn served(name: &str, replicas: u8, pod: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
{pod}---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"
    )
}

/// A Service, and a Deployment of a Python program that listens on port 8080. Its text must have no tabs.
pub fn python(name: &str, replicas: u8, program: &str) -> String {
    let indented: String = program.lines().map(|line| format!("    {line}\n")).collect();
    let config = format!(
        r#"---
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}-program}}
data:
  main.py: |
{indented}
"#
    );
    let pod = format!(
        r#"      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: python:3-slim
        command: [python3, -u, /program/main.py]
        env: [{{name: NAME, value: {name}}}]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
        volumeMounts: [{{name: program, mountPath: /program}}]
      volumes: [{{name: program, configMap: {{name: {name}-program}}}}]
"#
    );
    config + &served(name, replicas, &pod)
}

/// What the Python applications begin with: a server whose answers leave in one piece, and that ends at once when it is told to,
/// as programs do that know nothing of grace.
pub const SERVER: &str = r#"
import http.server, json, os, signal, socket, time, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *words): pass
    def answer(self, body, **fields):
        head = ''.join(f'{k.replace("_", "-")}: {v}\r\n' for k, v in fields.items())
        data = body.encode()
        self.wfile.write(f'HTTP/1.1 200 OK\r\ncontent-length: {len(data)}\r\n{head}\r\n'.encode() + data)
def serve(get):
    Handler.do_GET = get
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
"#;

/// Ends the pattern container of a pod at once, as a crash would.
pub fn kill_container(cluster: &Cluster, pod: &str) {
    let uid = cluster.jsonpath(&format!("pod/{pod}"), "{.metadata.uid}");
    assert!(uid.len() > 20, "{uid}");
    let mut killed = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        if text(&read("cgroup")).contains(&uid) && read("cmdline").starts_with(b"/hythe\0") {
            // It may be gone already.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            killed += 1;
        }
    }
    assert!(killed > 0, "no process of {pod}");
}

/// Where a program of a package is.
pub fn installed(paths: &[&'static str]) -> &'static str {
    paths.iter().find(|path| Path::new(path).exists()).unwrap_or_else(|| panic!("{paths:?}: run scripts/deps.sh test"))
}
