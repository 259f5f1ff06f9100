//! What may be written to a Job's status.
//!
//! Since others may run Jobs too (`managedBy`, KEP-4368), the server itself holds statuses to the Job API's promises.
//! Most rules look only at what a write changes: a status that breaks one already may still be changed elsewhere, and one
//! that a new spec contradicts is left to the controller.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    super::{
        access::{flag, get, int, list, same_field, text},
        check::nonnegative,
        field::{Faults, Path},
    },
    indexes,
};
use crate::status::Cause;

const STATUS: Path<'_> = Path::root("status");

/// The faults of `new`'s status where `old` was, in upstream's words and order.
pub fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let update = Update { new: Job::of(new), old: Job::of(old) };
    numbers(&mut faults, update.new.status);
    uncounted(&mut faults, update.new.status);
    update.outcome(&mut faults);
    update.finished(&mut faults);
    update.indexes(&mut faults);
    update.pods(&mut faults);
    update.success(&mut faults);
    update.steps(&mut faults);
    faults.into_causes()
}

/// The object in a field, or none of it.
fn object<'a>(value: &'a Value, key: &str) -> &'a Value {
    get(value, key).unwrap_or(&Value::Null)
}

/// A Job as the rules see it.
struct Job<'a> {
    spec: &'a Value,
    status: &'a Value,
}

impl<'a> Job<'a> {
    fn of(job: &'a Value) -> Job<'a> {
        Job { spec: object(job, "spec"), status: object(job, "status") }
    }

    /// Whether the condition is there and true.
    fn is(&self, condition: &str) -> bool {
        list(self.status, "conditions")
            .iter()
            .any(|one| text(one, "type") == condition && text(one, "status") == "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        int(self.status, field).unwrap_or(0)
    }

    fn has(&self, field: &str) -> bool {
        get(self.status, field).is_some()
    }

    fn shown(&self, field: &str) -> &'a Value {
        object(self.status, field)
    }

    fn is_indexed(&self) -> bool {
        text(self.spec, "completionMode") == "Indexed"
    }
}

/// A write of a status.
struct Update<'a> {
    new: Job<'a>,
    old: Job<'a>,
}

fn numbers(faults: &mut Faults, status: &Value) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        nonnegative(faults, &STATUS, status, field);
    }
}

fn uncounted(faults: &mut Faults, status: &Value) {
    let path = STATUS.field("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for list_name in ["succeeded", "failed"] {
        let path = path.field(list_name);
        for (i, uid) in list(object(status, "uncountedTerminatedPods"), list_name).iter().enumerate() {
            match uid.as_str().unwrap_or("") {
                "" => faults.invalid(&path.index(i), "", "must not be empty"),
                uid if !seen.insert(uid) => faults.duplicate(&path.index(i), uid),
                _ => {}
            }
        }
    }
}

/// Faults of the conditions as a whole.
fn refuse(faults: &mut Faults, is_wrong: bool, why: &str) {
    if is_wrong {
        faults.invalid_unshown(&STATUS.field("conditions"), why);
    }
}

impl Update<'_> {
    /// Whether the write makes a condition true or no longer true.
    fn turns(&self, condition: &str) -> bool {
        self.new.is(condition) != self.old.is(condition)
    }

    fn ends(&self) -> bool {
        self.new.is_finished() != self.old.is_finished()
    }

    fn changes(&self, field: &str) -> bool {
        get(self.new.status, field) != get(self.old.status, field)
    }

    /// How the Job ended, and when.
    fn outcome(&self, faults: &mut Faults) {
        let new = &self.new;
        let completed = new.is("Complete");
        refuse(
            faults,
            (self.turns("Complete") || self.turns("Failed")) && completed && new.is("Failed"),
            "cannot set Complete=True and Failed=true conditions",
        );
        refuse(
            faults,
            (self.turns("Complete") || self.turns("FailureTarget")) && completed && new.is("FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        );
        let path = STATUS.field("completionTime");
        if self.turns("Complete") || self.changes("completionTime") {
            if new.has("completionTime") && !completed {
                let why = "cannot set completionTime when there is no Complete=True condition";
                faults.invalid(&path, new.shown("completionTime"), why);
            }
            if !new.has("completionTime") && completed {
                faults.required(&path, "completionTime is required for Complete jobs");
            }
        }
        let time = |field: &str| text(new.status, field).parse::<Timestamp>().ok();
        let ends_early = matches!((time("startTime"), time("completionTime")), (Some(start), Some(end)) if end < start);
        if ends_early && (self.changes("startTime") || self.changes("completionTime")) {
            faults.invalid(&path, new.shown("completionTime"), "completionTime cannot be set before startTime");
        }
        refuse(
            faults,
            (self.turns("Failed") || self.turns("FailureTarget")) && new.is("Failed") && !new.is("FailureTarget"),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
        refuse(
            faults,
            (self.turns("Complete") || self.turns("SuccessCriteriaMet")) && completed && !new.is("SuccessCriteriaMet"),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }

    /// A Job that has ended has started, and nothing of it is left to do.
    fn finished(&self, faults: &mut Faults) {
        let new = &self.new;
        if !new.is_finished() {
            return;
        }
        if (self.ends() || self.changes("active")) && new.count("active") > 0 {
            faults.invalid(&STATUS.field("active"), new.count("active"), "active>0 is invalid for finished job");
        }
        let never_to_start = flag(new.spec, "suspend") && int(new.spec, "completions") == Some(0);
        if (self.ends() || self.changes("startTime")) && !never_to_start && !new.has("startTime") {
            faults.required(&STATUS.field("startTime"), "startTime is required for finished job");
        }
        let pods = object(new.status, "uncountedTerminatedPods");
        let is_left = !list(pods, "succeeded").is_empty() || !list(pods, "failed").is_empty();
        if (self.ends() || !same_field(new.status, self.old.status, "uncountedTerminatedPods")) && is_left {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            faults.invalid(&STATUS.field("uncountedTerminatedPods"), pods, why);
        }
    }

    fn indexes(&self, faults: &mut Faults) {
        let new = &self.new;
        let completions = int(new.spec, "completions");
        let (completed, failed) = (text(new.status, "completedIndexes"), text(new.status, "failedIndexes"));
        let per_index = get(new.spec, "backoffLimitPerIndex").is_some();
        let now_completed = text(self.old.status, "completedIndexes") != completed;
        let now_failed = self.changes("failedIndexes");
        let (completed_at, failed_at) = (STATUS.field("completedIndexes"), STATUS.field("failedIndexes"));
        if let Some(most) = completions {
            if now_completed && let Err(fault) = indexes::count(completed, most) {
                faults.invalid(&completed_at, completed, format!("error parsing completedIndexes: {fault}"));
            }
            if now_failed
                && per_index
                && let Err(fault) = indexes::count(failed, most)
            {
                faults.invalid(&failed_at, failed, format!("error parsing failedIndexes: {fault}"));
            }
        }
        if now_completed && !completed.is_empty() && !new.is_indexed() {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            faults.invalid(&completed_at, completed, why);
        }
        if now_failed && !per_index && new.has("failedIndexes") {
            faults.invalid(&failed_at, failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
        }
        if (now_failed || now_completed)
            && let Some(index) = completions.and_then(|most| indexes::overlap(completed, failed, most))
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            faults.invalid(&failed_at, failed, why);
        }
    }

    fn pods(&self, faults: &mut Faults) {
        let new = &self.new;
        let terminating = new.count("terminating");
        if (self.ends() || self.changes("terminating")) && terminating > 0 && new.is_finished() {
            faults.invalid(&STATUS.field("terminating"), terminating, "terminating>0 is invalid for finished job");
        }
        let ready = new.count("ready");
        if (self.changes("ready") || self.new.count("active") != self.old.count("active"))
            && new.has("ready")
            && ready > new.count("active")
        {
            faults.invalid(&STATUS.field("ready"), ready, "cannot set more ready pods than active");
        }
    }

    fn success(&self, faults: &mut Faults) {
        let new = &self.new;
        let met = new.is("SuccessCriteriaMet");
        refuse(faults, met && new.is("Failed"), "cannot set SuccessCriteriaMet=True and Failed=true conditions");
        refuse(
            faults,
            met && new.is("FailureTarget"),
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
        refuse(
            faults,
            get(new.spec, "successPolicy").is_some() && !met && new.is("Complete"),
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
    }

    /// What is never taken back.
    fn steps(&self, faults: &mut Faults) {
        let (new, old) = (&self.new, &self.old);
        for condition in ["Failed", "Complete", "FailureTarget"] {
            let why = format!("cannot disable the terminal {condition}=True condition");
            refuse(faults, old.is(condition) && !new.is(condition), &why);
        }
        let fewer = |field: &str| new.count(field) < old.count(field);
        if fewer("failed") {
            faults.invalid(&STATUS.field("failed"), new.count("failed"), "cannot decrease the failed counter");
        }
        // An Indexed Job whose completions follow its parallelism may be made smaller.
        let is_elastic = new.is_indexed() && int(new.spec, "completions") == int(new.spec, "parallelism");
        if fewer("succeeded") && !is_elastic {
            faults.invalid(&STATUS.field("succeeded"), new.count("succeeded"), "cannot decrease the succeeded counter");
        }
        if new.has("completionTime") && old.has("completionTime") && self.changes("completionTime") {
            let shown = new.shown("completionTime");
            faults.invalid(&STATUS.field("completionTime"), shown, "completionTime cannot be mutated");
        }
        if old.has("startTime") && self.changes("startTime") && !flag(new.spec, "suspend") {
            faults.required(&STATUS.field("startTime"), "startTime cannot be removed for unsuspended job");
        }
        let met = |job: &Job<'_>| job.is("SuccessCriteriaMet");
        refuse(faults, met(old) && !met(new), "cannot disable the SuccessCriteriaMet=True condition");
        refuse(
            faults,
            old.is("Complete") && !met(old) && met(new),
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}
