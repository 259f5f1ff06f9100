//! The loop, against an API server in memory.

use scheduler::{Config, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fake_api::FakeApi;

/// Ends the loop with the test.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start(api: &FakeApi) -> Running {
    let (client, config) = (api.client(), Config { instance: "default-scheduler-host".into(), ..Config::default() });
    Running(tokio::spawn(async move {
        run(client, config).await;
    }))
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn condition(pod: &Value) -> &Value {
    &pod["status"]["conditions"][0]
}

#[tokio::test]
async fn a_pod_is_bound_and_an_event_says_where() {
    let api = FakeApi::default();
    api.put(node("n1", "4"));
    let _running = start(&api);
    api.put(pod("web", "1"));
    assert_eq!(api.until_bound("web").await, "n1");
    api.until("an event", |api| !api.events("Scheduled").is_empty()).await;
    let event = api.events("Scheduled").remove(0);
    assert_eq!(event["note"], "Successfully assigned default/web to n1");
    assert_eq!((&event["type"], &event["action"]), (&"Normal".into(), &"Binding".into()));
    assert_eq!(event["reportingController"], "default-scheduler");
    assert_eq!(event["reportingInstance"], "default-scheduler-host");
    assert_eq!((&event["regarding"]["kind"], &event["regarding"]["uid"]), (&"Pod".into(), &"uid-web".into()));
    assert!(event["eventTime"].is_string());
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_is_told_why_and_placed_when_a_node_comes() {
    let api = FakeApi::default();
    api.put(node("small", "1"));
    api.put(pod("big", "2"));
    let _running = start(&api);
    api.until("a condition", |api| condition(&api.pod("big")).is_object()).await;
    let big = api.pod("big");
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
                   preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(condition(&big)["type"], "PodScheduled");
    assert_eq!(condition(&big)["status"], "False");
    assert_eq!(condition(&big)["reason"], "Unschedulable");
    assert_eq!(condition(&big)["message"], message);
    assert_eq!(condition(&big)["observedGeneration"], 1);
    api.until("an event", |api| !api.events("FailedScheduling").is_empty()).await;
    let event = api.events("FailedScheduling").remove(0);
    assert_eq!((&event["type"], &event["note"]), (&"Warning".into(), &message.into()));

    api.put(node("large", "4"));
    assert_eq!(api.until_bound("big").await, "large");
}

#[tokio::test]
async fn the_same_failure_again_counts_up_its_event() {
    let api = FakeApi::default();
    api.put(node("small", "1"));
    api.put(pod("big", "2"));
    let _running = start(&api);
    api.until("an event", |api| !api.events("FailedScheduling").is_empty()).await;
    // More room, though not enough, is a reason to try again.
    api.put(node("small", "1500m"));
    api.until("a series", |api| api.events("FailedScheduling")[0]["series"]["count"] == 2).await;
    assert_eq!(api.events("FailedScheduling").len(), 1);
}

#[tokio::test]
async fn without_nodes_it_says_so() {
    let api = FakeApi::default();
    let _running = start(&api);
    api.put(pod("web", "1"));
    api.until("a condition", |api| condition(&api.pod("web")).is_object()).await;
    assert_eq!(condition(&api.pod("web"))["message"], "no nodes available to schedule pods");
}

#[tokio::test]
async fn pods_of_others_gated_terminating_and_finished_ones_are_left_alone() {
    let api = FakeApi::default();
    api.put(node("n1", "4"));
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = "mine".into();
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    let mut terminating = pod("terminating", "1");
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut finished = pod("finished", "1");
    finished["status"]["phase"] = "Failed".into();
    for pod in [other, gated.clone(), terminating, finished] {
        api.put(pod);
    }
    let _running = start(&api);
    // When the last has its node, the others have been passed over.
    api.put(pod("last", "1"));
    api.until_bound("last").await;
    assert_eq!(api.bindings(), 1);
    assert!(condition(&api.pod("gated")).is_null(), "its condition is the API server's");

    gated["spec"]["schedulingGates"] = json!([]);
    api.put(gated);
    api.until_bound("gated").await;
}

#[tokio::test]
async fn a_refused_binding_is_told_and_tried_again() {
    let api = FakeApi::default();
    api.put(node("n1", "1"));
    api.refuse_binding(409, "Operation cannot be fulfilled on pods/binding \"web\": try again");
    let _running = start(&api);
    api.put(pod("web", "1"));
    // The room it was assumed to take is free again, else it would not fit the second time.
    assert_eq!(api.until_bound("web").await, "n1");
    assert_eq!(api.bindings(), 2);
    let event = api.events("FailedScheduling").remove(0);
    let note = "binding rejected: running Bind plugin \"DefaultBinder\": Operation cannot be fulfilled on pods/binding \"web\": try again";
    assert_eq!(event["note"], note);
}

#[tokio::test]
async fn a_deleted_pod_makes_room_for_one_that_waits() {
    let api = FakeApi::default();
    api.put(node("n1", "2"));
    let mut old = pod("old", "1500m");
    old["spec"]["nodeName"] = "n1".into();
    api.put(old);
    api.put(pod("new", "1"));
    let _running = start(&api);
    api.until("it waits", |api| condition(&api.pod("new")).is_object()).await;
    let message = condition(&api.pod("new"))["message"].as_str().expect("text").to_owned();
    assert!(
        message.ends_with("preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."),
        "{message}"
    );
    api.delete("Pod", "old");
    assert_eq!(api.until_bound("new").await, "n1");
}

#[tokio::test]
async fn a_burst_is_placed_whole_and_never_beyond_what_nodes_have() {
    let api = FakeApi::default();
    for n in 0..10 {
        api.put(node(&format!("n{n}"), "10"));
    }
    let _running = start(&api);
    for n in 0..100 {
        api.put(pod(&format!("p{n}"), "1"));
    }
    let mut used = std::collections::HashMap::<String, usize>::new();
    for n in 0..100 {
        *used.entry(api.until_bound(&format!("p{n}")).await).or_default() += 1;
    }
    assert!(used.len() == 10 && used.values().all(|n| *n == 10), "{used:?}");
    assert_eq!(api.bindings(), 100);
}

#[tokio::test]
async fn the_room_of_a_pod_that_vanished_while_it_was_bound_is_free_again() {
    let api = FakeApi::default();
    api.put(node("n1", "1"));
    api.refuse_binding(404, "pods \"gone\" not found");
    let open = api.hold_bindings();
    let _running = start(&api);
    let mut gone = pod("gone", "1");
    api.put(gone.clone());
    api.until("its binding is under way", |api| api.bindings() == 1).await;
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    api.put(gone);
    // What comes later in the same watch is answered when all before has been taken in.
    api.put(pod("next", "1"));
    api.until("the next one waits", |api| condition(&api.pod("next")).is_object()).await;
    open();
    assert_eq!(api.until_bound("next").await, "n1");
}

#[tokio::test]
async fn a_more_important_pod_pushes_out_a_lesser_one_and_takes_its_room() {
    let api = FakeApi::default();
    api.put(node("n1", "2"));
    let mut low = pod("low", "1500m");
    low["spec"]["nodeName"] = "n1".into();
    api.put(low);
    let _running = start(&api);
    let mut high = pod("high", "1");
    high["spec"]["priority"] = 1000.into();
    api.put(high);
    api.until("the victim is told to go", |api| api.pod("low")["metadata"]["deletionTimestamp"].is_string()).await;
    let told = condition(&api.pod("low")).clone();
    assert_eq!((&told["type"], &told["status"]), (&"DisruptionTarget".into(), &"True".into()));
    assert_eq!(told["reason"], "PreemptionByScheduler");
    assert_eq!(told["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    api.until("its room is promised", |api| api.pod("high")["status"]["nominatedNodeName"] == "n1").await;
    api.until("an event", |api| !api.events("Preempted").is_empty()).await;
    let event = api.events("Preempted").remove(0);
    assert_eq!(event["note"], "Preempted by pod uid-high on node n1");
    assert_eq!((&event["regarding"]["name"], &event["action"]), (&"low".into(), &"Preempting".into()));
    assert_eq!(api.events("FailedScheduling")[0]["note"], "0/1 nodes are available: 1 Insufficient cpu.");
    // A lesser pod that comes now does not get the room.
    api.put(pod("late", "500m"));
    api.delete("Pod", "low");
    assert_eq!(api.until_bound("high").await, "n1");
}
