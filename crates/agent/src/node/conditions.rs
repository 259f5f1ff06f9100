//! The node's conditions, with upstream's reasons and messages. Pure.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time};

/// How the machine fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Less memory is available than the eviction threshold.
    pub memory_pressure: bool,
    /// Less disk or fewer inodes are free than the threshold.
    pub disk_pressure: bool,
    /// Hardly any process ids are left.
    pub pid_pressure: bool,
    /// Pods can't be run: why.
    pub not_ready: Option<&'static str>,
}

/// The four conditions. Transition times of `old` stay as long as the status does.
pub fn of(health: Health, old: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |kind: &str, under: bool, bad: (&str, &str), good: (&str, &str)| {
        let (reason, message) = if under { bad } else { good };
        condition(kind, under, reason, message, old, now)
    };
    let ready = match health.not_ready {
        None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status", old, now),
        Some(why) => condition("Ready", false, "KubeletNotReady", why, old, now),
    };
    vec![
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ]
}

fn condition(
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    old: &[NodeCondition],
    now: Timestamp,
) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let since = old.iter().find(|c| c.type_ == kind && c.status == status).and_then(|c| c.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_times_stay_while_the_status_does() {
        let then = Timestamp::from_second(100).expect("in range");
        let now = Timestamp::from_second(200).expect("in range");
        let old = of(Health::default(), &[], then);
        let new = of(Health { disk_pressure: true, ..Health::default() }, &old, now);
        let times: Vec<_> =
            new.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.last_transition_time.clone())).collect();
        assert_eq!(times[0], ("MemoryPressure", "False", Some(Time(then))));
        assert_eq!(times[1], ("DiskPressure", "True", Some(Time(now))));
        assert_eq!(times[3], ("Ready", "True", Some(Time(then))));
    }
}
