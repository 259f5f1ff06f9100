//! `batch/v1 Job`.

use serde_json::{Value, json};

use super::{
    super::{
        access::{
            at, copy, ensure_object, fill, fill_text, flag, get, int, is_empty, items_mut, list, object_mut, same,
            same_field, set, text, text_at,
        },
        check::{IMMUTABLE, domain_prefixed_path, label_selector, nonnegative, selects},
        field::{Faults, Path},
        names,
        pod::{defaults::default_template, spec},
        prepare::{self, PLAIN},
    },
    job_status, success_policy, template,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of Jobs.
pub const JOB: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    validate,
    validate_update,
    validate_status_update: job_status::validate_update,
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    if get(spec, "completions").is_none() && get(spec, "parallelism").is_none() {
        set(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if get(spec, "backoffLimitPerIndex").is_some() { i64::from(i32::MAX) } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if get(spec, "podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    default_job_parts(spec);
    label_as_the_template(object);
}

/// A Job without labels has its template's.
fn label_as_the_template(job: &mut Value) {
    let labels = at(job, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(|labels| labels.as_object().is_some_and(|map| !map.is_empty())) {
        let metadata = ensure_object(job, "metadata");
        if is_empty(metadata, "labels") {
            set(metadata, "labels", labels);
        }
    }
}

/// Defaults that the job template of a CronJob gets too.
pub fn default_job_parts(spec: &mut Value) {
    default_template(spec);
    if let Some(policy) = object_mut(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                fill_text(pattern, "status", "True");
            }
        }
    }
}

/// Once the Job has a uid: the labels and the selector by which it knows its pods.
pub fn after_identity(job: &mut Value) {
    if get(job, "spec").is_some_and(|spec| flag(spec, "manualSelector")) {
        return;
    }
    let uid = text_at(job, &["metadata", "uid"]).to_owned();
    let name = text_at(job, &["metadata", "name"]).to_owned();
    let spec = ensure_object(job, "spec");
    let template = ensure_object(spec, "template");
    let labels = ensure_object(ensure_object(template, "metadata"), "labels");
    fill(labels, "job-name", name.as_str());
    fill(labels, "batch.kubernetes.io/job-name", name.as_str());
    fill(labels, "controller-uid", uid.as_str());
    fill(labels, "batch.kubernetes.io/controller-uid", uid.as_str());
    let selector = ensure_object(ensure_object(spec, "selector"), "matchLabels");
    fill(selector, "batch.kubernetes.io/controller-uid", uid);
    // Upstream's defaults see the object again when it is read back.
    label_as_the_template(job);
}

fn validate(job: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(job, "spec").unwrap_or(&none);
    whole(&mut faults, job, spec);
    faults.into_causes()
}

/// What holds of a new Job and of a changed one.
fn whole(faults: &mut Faults, job: &Value, spec: &Value) {
    generated_selector(faults, job, spec);
    with_selector(faults, spec);
    if text(spec, "completionMode") == "Indexed"
        && let Some(completions) = int(spec, "completions").filter(|number| *number > 0)
    {
        // The name is part of the pods' host names; the last index makes the longest.
        let name = text_at(job, &["metadata", "name"]);
        let last = format!("{name}-{}", completions - 1);
        if !names::is_label(&last) {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            faults.invalid(&Path::root("metadata.name"), name, why);
        }
    }
}

fn with_selector(faults: &mut Faults, spec: &Value) {
    let path = Path::root("spec");
    job_spec(faults, &path, spec);
    match get(spec, "selector") {
        None => faults.required(&path.field("selector"), ""),
        Some(selector) => label_selector(faults, &path.field("selector"), selector),
    }
    template::selector_matches(faults, &path, spec);
}

/// The labels and the selector that the server made must be whole.
fn generated_selector(faults: &mut Faults, job: &Value, spec: &Value) {
    if flag(spec, "manualSelector") || get(spec, "selector").is_none() {
        return;
    }
    let (uid, name) = (text_at(job, &["metadata", "uid"]), text_at(job, &["metadata", "name"]));
    if uid.is_empty() {
        faults.required(&Path::root("metadata.uid"), "");
    }
    let path = Path::root("spec.template.metadata.labels");
    let labels = at(spec, &["template", "metadata", "labels"]);
    for (key, expected) in [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ] {
        let found = labels.and_then(|labels| get(labels, key)).and_then(Value::as_str);
        let why = format!("must be '{expected}'");
        if found.is_none() {
            faults.required(&path.key(key), &why);
        }
        if found.unwrap_or("") != expected {
            faults.invalid(&path.key(key), labels.unwrap_or(&Value::Null), why);
        }
    }
    let expected = json!({
        "controller-uid": uid,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
    });
    if let Some(selector) = get(spec, "selector").filter(|selector| !selects(selector, Some(&expected))) {
        faults.invalid(&Path::root("spec.selector"), selector, "`selector` not auto-generated");
    }
}

/// Bytes in `managedBy`.
const LONGEST_MANAGER: usize = 63;

/// A Job's spec, or that of a CronJob's template: all but the selector.
pub fn job_spec(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        nonnegative(faults, path, spec, field);
    }
    if get(spec, "maxFailedIndexes").is_some() && get(spec, "backoffLimitPerIndex").is_none() {
        faults.required(&path.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = get(spec, "managedBy").and_then(Value::as_str) {
        let at = path.field("managedBy");
        domain_prefixed_path(faults, &at, manager);
        if manager.len() > LONGEST_MANAGER {
            faults.too_long(&at, LONGEST_MANAGER);
        }
    }
    completion(faults, path, spec);
    if let Some(policy) = get(spec, "podFailurePolicy") {
        failure_policy(faults, &path.field("podFailurePolicy"), policy, spec);
    }
    if let Some(policy) = get(spec, "successPolicy") {
        success_policy::validate(faults, &path.field("successPolicy"), policy, spec);
    }
    if get(spec, "podReplacementPolicy").is_some() {
        let policy = text(spec, "podReplacementPolicy");
        let at = path.field("podReplacementPolicy");
        if get(spec, "podFailurePolicy").is_some() {
            if policy != "Failed" {
                faults.not_supported(&at, policy, &["Failed"]);
            }
        } else if !matches!(policy, "Failed" | "TerminatingOrFailed") {
            faults.not_supported(&at, policy, &["Failed", "TerminatingOrFailed"]);
        }
    }
    let at = path.field("template");
    spec::template(faults, &at, get(spec, "template").unwrap_or(&Value::Null));
    let restart = path.field("template");
    let restart = restart.field("spec");
    let restart = restart.field("restartPolicy");
    match text_at(spec, &["template", "spec", "restartPolicy"]) {
        "OnFailure" if get(spec, "podFailurePolicy").is_some() => {
            faults.invalid(&restart, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        // What a user who said nothing gets by default is no fit.
        "Always" | "" => faults.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        other => faults.not_supported(&restart, other, &["OnFailure", "Never"]),
    }
}

fn completion(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let mode = text(spec, "completionMode");
    if !matches!(mode, "" | "Indexed" | "NonIndexed") {
        faults.not_supported(&path.field("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if mode == "Indexed" {
        if get(spec, "completions").is_none() {
            faults.required(&path.field("completions"), "when completion mode is Indexed");
        }
        if let Some(parallelism) = int(spec, "parallelism").filter(|number| *number > MOST_PARALLEL) {
            let why = format!("must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed");
            faults.invalid(&path.field("parallelism"), parallelism, why);
        }
        failed_indexes(faults, path, spec);
    }
    if !matches!(mode, "" | "NonIndexed") {
        return;
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(limit) = int(spec, field) {
            faults.invalid(&path.field(field), limit, "requires indexed completion mode");
        }
    }
}

/// Upstream's numbers: what an Indexed Job may have at most, and what one of many completions may have with a limit for
/// each index.
const MOST_PARALLEL: i64 = 100_000;
const MOST_FAILED: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;

/// How many indexes of an Indexed Job may fail.
fn failed_indexes(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let at = path.field("maxFailedIndexes");
    let (completions, failed) = (int(spec, "completions"), int(spec, "maxFailedIndexes"));
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        faults.invalid(&at, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > MOST_FAILED) {
        faults.invalid(&at, failed, format!("must be less than or equal to {MOST_FAILED}"));
    }
    let many = completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || get(spec, "backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        faults.required(&at, &format!("must be specified when completions is above {MANY_COMPLETIONS}"));
    }
    for field in ["parallelism", "maxFailedIndexes"] {
        if let Some(number) = int(spec, field).filter(|number| *number > MOST_OF_MANY) {
            let why = format!(
                "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            faults.invalid(&path.field(field), number, why);
        }
    }
}

fn failure_policy(faults: &mut Faults, path: &Path<'_>, policy: &Value, spec: &Value) {
    let rules = list(policy, "rules");
    let at = path.field("rules");
    if rules.len() > 20 {
        faults.too_many(&at, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        match text(rule, "action") {
            "" => {
                faults.required(&at.field("action"), "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]")
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            other => {
                faults.not_supported(&at.field("action"), other, &["Count", "FailIndex", "FailJob", "Ignore"]);
            }
        }
        if text(rule, "action") == "FailIndex" && get(spec, "backoffLimitPerIndex").is_none() {
            faults.invalid(&at.field("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (get(rule, "onExitCodes"), list(rule, "onPodConditions"));
        if let Some(codes) = codes {
            exit_codes(faults, &at.field("onExitCodes"), codes, spec);
        }
        pod_conditions(faults, &at.field("onPodConditions"), conditions);
        match (codes, conditions.is_empty()) {
            (None, true) => {
                faults.invalid_unshown(&at, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            (Some(_), false) => {
                faults.invalid_unshown(&at, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            _ => {}
        }
    }
}

fn exit_codes(faults: &mut Faults, path: &Path<'_>, codes: &Value, spec: &Value) {
    match text(codes, "operator") {
        "" => faults.required(&path.field("operator"), "valid values: [\"In\" \"NotIn\"]"),
        "In" | "NotIn" => {}
        other => faults.not_supported(&path.field("operator"), other, &["In", "NotIn"]),
    }
    let named = |name: &str| {
        let pod = at(spec, &["template", "spec"]).unwrap_or(&Value::Null);
        let mut containers = list(pod, "containers").iter().chain(list(pod, "initContainers"));
        containers.any(|container| text(container, "name") == name)
    };
    if let Some(name) = get(codes, "containerName").and_then(Value::as_str).filter(|name| !named(name)) {
        faults.invalid(
            &path.field("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let at = path.field("values");
    let shown = get(codes, "values").unwrap_or(&Value::Null);
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        faults.invalid(&at, shown, "at least one value is required");
    } else if values.len() > MOST_EXIT_CODES {
        faults.too_many(&at, values.len(), MOST_EXIT_CODES);
    }
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && text(codes, "operator") == "In" {
            faults.invalid(&at.index(i), *value, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            faults.duplicate(&at.index(i), *value);
        }
    }
    if !values.is_sorted() {
        faults.invalid(&at, shown, "must be ordered");
    }
}

/// Exit codes and conditions in one rule (upstream's numbers).
const MOST_EXIT_CODES: usize = 255;
const MOST_CONDITIONS: usize = 20;

fn pod_conditions(faults: &mut Faults, path: &Path<'_>, conditions: &[Value]) {
    if conditions.len() > MOST_CONDITIONS {
        faults.too_many(path, conditions.len(), MOST_CONDITIONS);
    }
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let kind = text(condition, "type");
        faults.invalid_each(&at.field("type"), kind, names::qualified_name(kind));
        match text(condition, "status") {
            "" => faults.required(&at.field("status"), "valid values: [\"False\" \"True\" \"Unknown\"]"),
            "True" | "False" | "Unknown" => {}
            other => faults.not_supported(&at.field("status"), other, &["False", "True", "Unknown"]),
        }
    }
}

/// How many completions there are may change for an Indexed Job alone, and only together with its parallelism.
fn completions_change(faults: &mut Faults, new_spec: &Value, old_spec: &Value, path: &Path<'_>) {
    if same_field(new_spec, old_spec, "completions") {
        return;
    }
    let at = path.field("completions");
    let shown = get(new_spec, "completions").unwrap_or(&Value::Null);
    if text(new_spec, "completionMode") != "Indexed" {
        faults.invalid(&at, shown, IMMUTABLE);
    } else if !shown.is_null() && int(new_spec, "completions") != int(new_spec, "parallelism") {
        faults.invalid(&at, shown, "can only be modified in tandem with spec.parallelism");
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    whole(&mut faults, new, new_spec);
    let path = Path::root("spec");
    let shown = |field: &str| get(new_spec, field).unwrap_or(&Value::Null);
    completions_change(&mut faults, new_spec, old_spec, &path);
    if !same_field(new_spec, old_spec, "selector") {
        faults.invalid(&path.field("selector"), shown("selector"), IMMUTABLE);
    }
    template_update(&mut faults, &path.field("template"), old, new_spec, old_spec);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        if !same_field(new_spec, old_spec, field) {
            faults.invalid(&path.field(field), shown(field), IMMUTABLE);
        }
    }
    faults.into_causes()
}

/// While the Job is suspended and has no pods the template may change what its containers ask for and where it places
/// pods (KEP-5440).
fn template_update(faults: &mut Faults, path: &Path<'_>, old: &Value, new_spec: &Value, old_spec: &Value) {
    let none = json!({});
    let (new_pods, old_pods) = (get(new_spec, "template").unwrap_or(&none), get(old_spec, "template").unwrap_or(&none));
    let mut munged = new_pods.clone();
    let suspended = flag(old_spec, "suspend");
    let never_ran = at(old, &["status", "startTime"]).is_none();
    if suspended && (never_ran || is_at_rest(old)) {
        let pod = ensure_object(&mut munged, "spec");
        let before = get(old_pods, "spec").unwrap_or(&none);
        for field in ["containers", "initContainers"] {
            // Other containers than before are refused below.
            for (container, before) in items_mut(pod, field).zip(list(before, field)) {
                copy(container, before, "resources");
            }
        }
        for field in ["affinity", "nodeSelector", "tolerations", "schedulingGates"] {
            copy(pod, before, field);
        }
        let metadata = ensure_object(&mut munged, "metadata");
        let before = get(old_pods, "metadata").unwrap_or(&none);
        for field in ["labels", "annotations"] {
            copy(metadata, before, field);
        }
    }
    if !same(&munged, old_pods) {
        faults.invalid(path, new_pods, IMMUTABLE);
    }
}

/// Whether the controller has seen the suspension through.
fn is_at_rest(job: &Value) -> bool {
    let none = Value::Null;
    let status = get(job, "status").unwrap_or(&none);
    let told = |condition: &&Value| text(condition, "type") == "Suspended" && text(condition, "status") == "True";
    list(status, "conditions").iter().any(|condition| told(&condition)) && int(status, "active").unwrap_or(0) == 0
}
