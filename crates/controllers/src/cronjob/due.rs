//! Which scheduled time is to be acted on now. Pure (upstream's `mostRecentScheduleTime`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use super::schedule::Schedule;

/// What the clock says to a CronJob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The newest scheduled time that has come and was not acted on.
    pub at: Option<Timestamp>,
    /// It is too late for that one.
    pub too_late: bool,
    /// So many were missed that something must be wrong.
    pub many_missed: bool,
    /// The first time that has not come yet.
    pub next: Option<Timestamp>,
}

/// More missed times than these are told of.
const MANY: i64 = 100;

/// What upstream says too where a schedule names no time at all, as the 31st of February.
const NO_TWO_TIMES: &str = "time difference between two schedules is less than 1 second";

/// Looks at the clock. `Err`: the schedule makes no sense.
pub fn due(job: &CronJob, schedule: &Schedule, now: Timestamp) -> Result<Due, &'static str> {
    let deadline = job.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let created = job.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let mut earliest = job.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map_or(created, |t| t.0);
    if let Some(bound) = deadline.and_then(|d| now.checked_sub(d).ok()) {
        earliest = earliest.max(bound);
    }
    let Some(first) = schedule.next(earliest) else { return Err(NO_TWO_TIMES) };
    if first > now {
        return Ok(Due { next: Some(first), ..Due::default() });
    }
    let second = schedule.next(first);
    let Some(second) = second.filter(|t| *t <= now) else {
        return Ok(Due { at: Some(first), next: second, ..late(first, deadline, now) });
    };
    let between = second.duration_since(first).as_secs();
    if between < 1 {
        return Err(NO_TWO_TIMES);
    }
    // Jump near to the present instead of walking through all that was missed.
    let missed = now.duration_since(first).as_secs() / between + 1;
    let near = first.checked_add(SignedDuration::from_secs((missed - 2).max(0) * between)).unwrap_or(first);
    let mut at = first;
    let mut next = schedule.next(near.checked_sub(SignedDuration::from_secs(1)).unwrap_or(near));
    while let Some(time) = next.filter(|t| *t <= now) {
        at = at.max(time);
        next = schedule.next(time);
    }
    Ok(Due { at: Some(at), next, many_missed: missed > MANY, ..late(at, deadline, now) })
}

fn late(at: Timestamp, deadline: Option<SignedDuration>, now: Timestamp) -> Due {
    let too_late = deadline.and_then(|d| at.checked_add(d).ok()).is_some_and(|end| end < now);
    Due { too_late, ..Due::default() }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn look(last: Option<&str>, deadline: Option<i64>, now: &str) -> (Option<Timestamp>, Option<Timestamp>, bool) {
        let job: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "", "jobTemplate": {}, "startingDeadlineSeconds": deadline},
            "status": {"lastScheduleTime": last},
        }))
        .unwrap();
        let schedule = Schedule::parse("*/10 * * * *", TimeZone::UTC).unwrap();
        let due = due(&job, &schedule, at(now)).unwrap();
        (due.at, due.next, due.many_missed)
    }

    #[test]
    fn a_schedule_without_any_time_makes_no_sense() {
        let job: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "", "jobTemplate": {}},
        }))
        .unwrap();
        let never = Schedule::parse("59 23 31 2 *", TimeZone::UTC).unwrap();
        assert_eq!(due(&job, &never, at("2026-01-01T00:05:00Z")), Err(NO_TWO_TIMES));
        let leap_days = Schedule::parse("0 0 29 2 *", TimeZone::UTC).unwrap();
        let next = due(&job, &leap_days, at("2026-01-01T00:05:00Z")).unwrap().next;
        assert_eq!(next, Some(at("2028-02-29T00:00:00Z")));
    }

    #[test]
    fn the_newest_missed_time_is_due() {
        let time = |text: &str| Some(at(text));
        for (last, deadline, now, expected) in [
            (None, None, "2026-01-01T00:09:59Z", (None, time("2026-01-01T00:10:00Z"), false)),
            (None, None, "2026-01-01T00:10:00Z", (time("2026-01-01T00:10:00Z"), time("2026-01-01T00:20:00Z"), false)),
            (None, None, "2026-01-01T00:35:00Z", (time("2026-01-01T00:30:00Z"), time("2026-01-01T00:40:00Z"), false)),
            (Some("2026-01-01T00:30:00Z"), None, "2026-01-01T00:35:00Z", (None, time("2026-01-01T00:40:00Z"), false)),
            (None, Some(60), "2026-01-01T00:35:00Z", (None, time("2026-01-01T00:40:00Z"), false)),
            (
                None,
                Some(600),
                "2026-01-01T00:35:00Z",
                (time("2026-01-01T00:30:00Z"), time("2026-01-01T00:40:00Z"), false),
            ),
            // A clock that was set back: what was acted on is not acted on again.
            (Some("2026-01-01T00:30:00Z"), None, "2025-12-31T23:00:00Z", (None, time("2026-01-01T00:40:00Z"), false)),
            (
                Some("2026-01-01T00:30:00Z"),
                Some(60),
                "2026-01-01T00:05:00Z",
                (None, time("2026-01-01T00:40:00Z"), false),
            ),
            (None, None, "2026-01-31T00:05:00Z", (time("2026-01-31T00:00:00Z"), time("2026-01-31T00:10:00Z"), true)),
        ] {
            assert_eq!(look(last, deadline, now), expected, "{last:?} {deadline:?} {now}");
        }
    }
}
