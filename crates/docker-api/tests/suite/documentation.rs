//! `docs/docker.md` says what the tables say, and the tables what the stock client knows and the engine does.

use std::fmt::Write;
use std::process::Command;
use std::{fs, path::Path};

use docker_api::{RUN_FLAGS, State, endpoints};

use super::wire::ask;
use super::world::World;

const BEGIN: &str = "<!-- generated from the code: UPDATE_DOCS=1 cargo nextest run -p docker-api documentation -->\n";
const END: &str = "<!-- end of the generated part -->\n";

fn tables() -> String {
    let mut text = String::from("## Endpoints\n\n| method | path | state |\n|---|---|---|\n");
    for endpoint in endpoints() {
        let state = if endpoint.served { "served" } else { "refused" };
        writeln!(text, "| {} | `{}` | {state} |", endpoint.method, endpoint.path).unwrap();
    }
    text += "\n## Flags of docker run\n\n| flag | state | remark |\n|---|---|---|\n";
    for flag in RUN_FLAGS {
        let state = match flag.state {
            State::Served => "served",
            State::Kept => "no effect",
            State::Warned => "warned of",
            State::Refused => "refused",
        };
        writeln!(text, "| `{}` | {state} | {} |", flag.name, flag.note).unwrap();
    }
    text
}

#[test]
fn the_page_of_docker_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/docker.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the opening mark");
    let (_, after) = rest.split_once(END).expect("the page has the closing mark");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == wanted, "docs/docker.md is out of date: run the command in its mark");
}

#[test]
fn every_flag_that_the_client_knows_is_in_the_table() {
    let help = Command::new("docker").args(["run", "--help"]).output().expect("the client is installed");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let long = |line: &str| {
        line.split_whitespace().find(|word| word.starts_with("--")).map(|word| word.trim_end_matches(',').to_owned())
    };
    let known: Vec<String> = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .filter_map(long)
        .filter(|name| name != "--help")
        .collect();
    assert!(known.len() > 80, "{help}");
    let listed: Vec<&str> = RUN_FLAGS.iter().filter_map(|flag| flag.name.split(", ").last()).collect();
    let missing: Vec<&String> = known.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(listed.is_sorted() && listed.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn what_the_tables_call_warned_of_and_refused_is() {
    let world = World::new();
    let flags: &[(&str, &str)] = &[
        ("--cpu-rt-period", "1000"),
        ("--cpu-rt-runtime", "1000"),
        ("--gpus", "all"),
        ("--memory-swappiness", "10"),
        ("--oom-kill-disable", "true"),
        ("--storage-opt", "size=1G"),
    ];
    for flag in RUN_FLAGS.iter().filter(|flag| matches!(flag.state, State::Warned | State::Refused)) {
        let (name, value) =
            flags.iter().find(|(name, _)| *name == flag.name).expect("every such flag has a value above");
        let outcome = world.docker(&["run", "--rm", &format!("{name}={value}"), "busybox", "echo", "ran"]);
        match flag.state {
            State::Refused => drop(outcome.fails(125)),
            _ => {
                assert!(outcome.stderr.to_lowercase().contains("discarded"), "{name}: {outcome:?}");
                assert_eq!(outcome.ok(), "ran");
            }
        }
    }
}

#[test]
fn what_is_out_of_scope_is_refused_in_dockers_shape() {
    let world = World::empty();
    for endpoint in endpoints().filter(|endpoint| !endpoint.served) {
        let path = endpoint.path.replace("{any*}", "x").replace("{any}", "x").replace("{name}", "x");
        let answer = ask(&world, &format!("{} /v1.47{path} HTTP/1.1\r\nContent-Length: 0", endpoint.method));
        let status: u16 = answer.split(' ').nth(1).expect("a status").parse().expect("a number");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        if path == "/plugins" {
            assert_eq!((status, body.trim()), (200, "[]"));
            continue;
        }
        assert!(matches!(status, 501 | 503), "{endpoint:?}: {status} {body}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{endpoint:?}: {body}");
    }
}
