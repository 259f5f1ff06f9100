//! Consistent hashing: keys go where nginx puts them among the same servers, and stay there when others come and go.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::stage::*;

struct Nginx(Child);

impl Nginx {
    /// nginx before these servers, hashing the query parameter `k`.
    fn start(directory: &Path, listen: SocketAddr, servers: &[(SocketAddr, u32)]) -> Self {
        let at = directory.display();
        let servers: String = servers.iter().map(|(a, weight)| format!(" server {a} weight={weight};\n")).collect();
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log /dev/null;\nevents {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\nupstream all {{ hash $arg_k consistent;\n{servers}}}\n\
             server {{ listen {listen}; location / {{ proxy_pass http://all; }} }} }}\n"
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(directory).stderr(Stdio::null());
        let nginx = Self(command.spawn().expect("nginx is installed (scripts/deps.sh test)"));
        until("nginx listens", || std::net::TcpStream::connect(listen).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn servers() -> Vec<SocketAddr> {
    ["a", "b", "c", "d", "e"].into_iter().map(|name| named(name).0).collect()
}

fn stage(servers: &[(SocketAddr, u32)], more: &str) -> Stage {
    let endpoints: Vec<_> = servers.iter().map(|(a, weight)| format!("{{address: '{a}', weight: {weight}}}")).collect();
    Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app, balance: hash, hash: {{query: k}}, endpoints: [{}]{more}}}]",
        endpoints.join(", ")
    ))
}

fn placed(address: SocketAddr, keys: usize) -> Vec<String> {
    (0..keys).map(|key| get(address, &format!("/page?k=user-{key}")).text()).collect()
}

#[test]
fn keys_go_where_nginx_puts_them() {
    let weighted: Vec<_> = servers().into_iter().zip([1, 3, 1, 2, 1]).collect();
    let directory = tempfile::tempdir().unwrap();
    let kept = Kept::new();
    let front = kept.address;
    let _nginx = Nginx::start(directory.path(), front, &weighted);
    let ours = stage(&weighted, "");
    let (theirs, mine) = (placed(front, 300), placed(ours.address(), 300));
    assert_eq!(theirs, mine);
    assert!(mine.iter().filter(|name| *name == "b").count() > 60, "weights count");
}

#[test]
fn a_server_more_or_less_moves_only_its_own_share_of_the_keys() {
    let all: Vec<_> = servers().into_iter().map(|address| (address, 1)).collect();
    for more in ["", ", ring: {distribution: ketama, hash: murmur}"] {
        let (four, five) = (stage(&all[..4], more), stage(&all, more));
        let (before, after) = (placed(four.address(), 400), placed(five.address(), 400));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
        assert!((40..=130).contains(&moved.len()), "about a fifth of 400 keys has moved: {}", moved.len());
        assert!(moved.iter().all(|(_, to)| *to == "e"), "and each of them to the new one");
    }
}

#[test]
fn a_tag_keeps_keys_together_and_who_has_no_key_is_told_by_address() {
    let all: Vec<_> = servers().into_iter().map(|address| (address, 1)).collect();
    let tagged = stage(&all, ", ring: {hash_tag: '{}'}");
    let one = get(tagged.address(), "/?k={user-7}.name").text();
    for key in ["{user-7}.mail", "{user-7}", "x{user-7}y"] {
        assert_eq!(get(tagged.address(), &format!("/?k={key}")).text(), one, "{key}");
    }
    let keyless = get(tagged.address(), "/").text();
    assert!((0..10).all(|n| get(tagged.address(), &format!("/{n}")).text() == keyless));
}
