//! Asks a running nginx where keys go: its own virtual servers stand behind it and answer with their letter.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use hash_ring::{Hash, Member, Placement};

use crate::cases::{Case, Golden, letter, plain_keys};
use crate::nutcracker::{alone, connect};

pub fn cases() -> Vec<Case> {
    let member = |name: &str, weight| Member::new(name, weight);
    let pools = [
        ("equal", (0..5).map(|index| member(&format!("127.84.0.{}:8080", index + 1), 1)).collect::<Vec<_>>()),
        (
            "weighted",
            vec![
                member("127.84.0.1:8080", 3),
                member("127.84.0.2:8080", 1),
                member("127.84.0.3:8080", 10),
                member("127.84.0.4:8080", 2),
            ],
        ),
        ("default-port", vec![member("127.84.0.1", 1), member("127.84.0.2", 2), member("127.84.0.3", 1)]),
        ("host-name", vec![member("localhost:48081", 1), member("127.84.0.2:8080", 1)]),
        (
            "unix-sockets",
            vec![
                member("unix:/tmp/hythe-placement-nginx-0.sock", 1),
                member("unix:/tmp/hythe-placement-nginx-1.sock", 1),
                member("unix:/tmp/hythe-placement-nginx-2.sock", 2),
            ],
        ),
    ];
    pools
        .into_iter()
        .map(|(name, members)| Case {
            name: name.to_owned(),
            placement: Placement::NginxConsistent,
            hash: Hash::Crc32a,
            tag: None,
            members,
        })
        .collect()
}

/// Each member's virtual server answers with the letter it has in its case; one entry server a case.
fn configuration(cases: &[Case], directory: &str) -> String {
    let mut text = format!(
        "daemon off; master_process off; pid {directory}/pid; error_log /dev/null;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; keepalive_requests 100000;\n\
         client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;\n\
         uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n"
    );
    let mut listening = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        text.push_str(&format!("upstream up{number} {{ hash $arg_k consistent;\n"));
        for member in &case.members {
            text.push_str(&format!(" server {} weight={};\n", member.name, member.weight));
        }
        text.push_str(&format!(
            "}}\nserver {{ listen 127.84.1.{}:8080; location / {{ proxy_pass http://up{number}; }} }}\n",
            number + 1
        ));
        for (index, member) in case.members.iter().enumerate() {
            if !listening.contains(&member.name) {
                listening.push(member.name.clone());
                let listen = match member.name.as_str() {
                    "localhost:48081" => "127.0.0.1:48081; listen [::1]:48081".to_owned(),
                    address if address.contains(':') => address.to_owned(),
                    bare => format!("{bare}:80"),
                };
                text.push_str(&format!("server {{ listen {listen}; return 200 {}; }}\n", letter(index)));
            }
        }
    }
    text + "}\n"
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        for index in 0..3 {
            let _ = std::fs::remove_file(format!("/tmp/hythe-placement-nginx-{index}.sock"));
        }
    }
}

/// The body of the answer to a GET with this key in its query.
fn ask(stream: &TcpStream, answers: &mut impl BufRead, key: &str) -> char {
    let request = format!("GET /?k={key} HTTP/1.1\r\nHost: placement\r\n\r\n");
    (&*stream).write_all(request.as_bytes()).expect("nginx reads");
    let mut length = 0;
    loop {
        let mut line = String::new();
        answers.read_line(&mut line).expect("a header");
        assert!(!line.is_empty(), "nginx closed the connection");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).expect("a body");
    assert_eq!(body.len(), 1, "{}", String::from_utf8_lossy(&body));
    char::from(body[0])
}

#[test]
fn the_kept_table_is_what_nginx_does() {
    let _alone = alone();
    let cases = cases();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration(&cases, &directory.path().display().to_string())).expect("a file");
    let nginx = Command::new("nginx")
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(directory.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed (scripts/deps.sh test)");
    let _nginx = Nginx(nginx);
    let mut answers = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let stream = connect(&format!("127.84.1.{}:8080", number + 1));
        let mut replies = BufReader::new(&stream);
        let table = plain_keys()
            .iter()
            .map(|key| ask(&stream, &mut replies, std::str::from_utf8(key).expect("plain keys are ASCII")))
            .collect();
        answers.push((case.name.clone(), table));
    }
    Golden::of("nginx").check("nginx 1.22.1", &answers);
}
