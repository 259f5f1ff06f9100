//! The page of the documentation, held against what it speaks of.

use sharding::MANUAL;
use sharding::config::Config;

const PAGE: &str = include_str!("../../../../docs/patterns/sharding.md");

#[test]
fn the_pages_example_is_a_configuration() {
    let (_, after) = PAGE.split_once("nutcracker.yaml: |\n").unwrap();
    let (block, _) = after.split_once("---\n").unwrap();
    let text: String = block.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.pools["db"].servers.len(), 3);
}

#[test]
fn the_page_names_every_endpoint_variable_and_key() {
    for endpoint in MANUAL.endpoints {
        let path = endpoint.path.split('?').next().unwrap();
        assert!(PAGE.contains(path), "{path}");
    }
    for variable in MANUAL.variables {
        assert!(PAGE.contains(variable.name), "{}", variable.name);
    }
    let unknown = Config::parse("a:\n  no_such_key: 1\n").unwrap_err().to_string();
    let keys: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(keys.len() > 20, "{unknown}");
    for key in keys {
        assert!(PAGE.contains(&format!("`{key}`")), "{key}");
    }
}
