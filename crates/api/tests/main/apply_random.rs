//! Server-side apply and updates in random order keep their promises.

use api::apply::{ApplyError, FieldSet, Manager, compare, field_set, manage_update, server_side_apply};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::apply_fields::deployment_type;

/// A small generator with a fixed seed, so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// A configuration that says some of what a Deployment can say.
fn config(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    for key in ["a", "b", "c"] {
        if dice.one_in(2) {
            labels.insert(key.to_owned(), json!(dice.below(2).to_string()));
        }
    }
    let mut containers = Vec::new();
    let mut names = ["x", "y", "z"];
    let turn = dice.below(3) as usize;
    names.rotate_left(turn);
    for name in names {
        if dice.one_in(2) {
            let mut container = json!({"name": name});
            if dice.one_in(2) {
                container["image"] = json!(format!("i{}", dice.below(2)));
            }
            if dice.one_in(2) {
                container["args"] = json!([dice.below(3).to_string()]);
            }
            if dice.one_in(2) {
                container["env"] = json!([{"name": "E", "value": dice.below(2).to_string()}]);
            }
            containers.push(container);
        }
    }
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n"},
        "spec": {"paused": dice.one_in(2)},
    });
    if !labels.is_empty() {
        object["metadata"]["labels"] = Value::Object(labels);
    }
    if !containers.is_empty() {
        object["spec"]["template"]["spec"]["containers"] = Value::Array(containers);
    }
    if dice.one_in(2) {
        object["spec"]["replicas"] = json!(dice.below(3));
    }
    if dice.one_in(3) {
        object["spec"]["selector"] = json!({"matchLabels": {"s": dice.below(2).to_string()}});
    }
    if dice.one_in(3) {
        object["metadata"]["finalizers"] = json!([format!("f/{}", dice.below(3))]);
    }
    object
}

fn without_fields(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().shift_remove("managedFields");
    object
}

/// Whether `part` says nothing that `whole` does not say too.
fn says(whole: &Value, part: &Value) {
    let change = compare(deployment_type(), Some(part), whole, "");
    assert!(change.modified.is_empty() && change.removed.is_empty(), "{part}\nis not in\n{whole}");
}

/// What appliers own exists, and entries are neither empty nor doubled.
fn check(object: &Value) {
    let held = field_set(deployment_type(), &without_fields(object));
    let mut seen = Vec::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let key = (entry["manager"].clone(), entry["operation"].clone());
        assert!(!seen.contains(&key), "{key:?} twice");
        seen.push(key);
        let set = FieldSet::from_fields(&entry["fieldsV1"]).unwrap();
        assert!(!set.is_empty());
        assert_eq!(set.to_fields(), entry["fieldsV1"], "canonical order");
        if entry["operation"] == "Update" {
            // Updaters own parents that field_set leaves out, so look at what they own below them.
            continue;
        }
        let stray: Vec<String> =
            set.difference(&held).paths().iter().map(|p| p.iter().map(ToString::to_string).collect()).collect();
        assert!(stray.is_empty(), "{} owns {stray:?}, which do not exist in {object}", entry["manager"]);
    }
}

#[test]
fn random_applies_and_updates_keep_values_and_owners_in_step() {
    let of = deployment_type();
    let managers = ["one", "two", "three"];
    for seed in 0..80 {
        let mut dice = Dice(seed);
        let mut live: Option<Value> = None;
        for step in 0..12 {
            let now = Timestamp::from_second(1_767_225_600 + step).unwrap();
            let name = managers[dice.below(3) as usize];
            let manager = Manager { name, api_version: "apps/v1", subresource: "", now };
            let config = config(&mut dice);
            if live.is_some() && dice.one_in(4) {
                let before = live.clone().unwrap();
                let mut config = config.clone();
                config["metadata"]["uid"] = json!("u");
                let mut new = config.clone();
                new["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
                manage_update(of, Some(&before), &mut new, &manager);
                assert_eq!(without_fields(&new), config, "an update changes no value");
                check(&new);
                live = Some(new);
                continue;
            }
            let force = dice.one_in(2);
            match server_side_apply(of, live.as_ref(), &config, &manager, force) {
                Ok(mut object) => {
                    says(&object, &config);
                    assert_eq!(object["metadata"]["name"], "d");
                    match &live {
                        Some(_) => assert_eq!(object["metadata"]["uid"], "u", "seed {seed}, step {step}"),
                        None => object["metadata"]["uid"] = json!("u"),
                    }
                    check(&object);
                    let later = Manager { now: Timestamp::from_second(1_800_000_000).unwrap(), ..manager };
                    let again = server_side_apply(of, Some(&object), &config, &later, false).unwrap();
                    assert_eq!(again, object, "applying again changes nothing (seed {seed}, step {step})");
                    live = Some(object);
                }
                Err(ApplyError::Conflicts(conflicts)) => {
                    assert!(!force && !conflicts.is_empty() && live.is_some());
                    assert!(conflicts.iter().all(|c| !c.manager.contains(&format!("{name:?}\n"))));
                    let forced = server_side_apply(of, live.as_ref(), &config, &manager, true).unwrap();
                    says(&forced, &config);
                }
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
    }
}
