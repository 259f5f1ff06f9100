//! `oom_score_adj` as the kubelet sets it.

use super::qos::QosClass;

/// The score adjustment for a container that requests `memory_request` bytes on a node of `capacity` bytes.
pub fn adjustment(class: QosClass, memory_request: i64, capacity: i64, critical: bool) -> i32 {
    if critical {
        return -997;
    }
    match class {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let capacity = i128::from(capacity.max(1));
            let share = 1000 - (1000 * i128::from(memory_request.max(0))) / capacity;
            // Between guaranteed and best effort, whatever it requests.
            i32::try_from(share.clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burstable_pods_lie_between_guaranteed_and_best_effort() {
        assert_eq!(adjustment(QosClass::Guaranteed, 0, 100, false), -997);
        assert_eq!(adjustment(QosClass::BestEffort, 0, 100, false), 1000);
        assert_eq!(adjustment(QosClass::Burstable, 0, 100, false), 999);
        assert_eq!(adjustment(QosClass::Burstable, 50, 100, false), 500);
        assert_eq!(adjustment(QosClass::Burstable, 100, 100, false), 3);
        assert_eq!(adjustment(QosClass::BestEffort, 0, 100, true), -997);
    }
}
