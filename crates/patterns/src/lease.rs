//! Leader election by a Lease (`coordination.k8s.io/v1`): of several operators one works.

use std::time::Duration;

use controllers::Error;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;

/// For how long a leader may not be heard of before others take over.
const DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Who wants to lead.
#[derive(Clone)]
pub struct Candidate {
    client: Client,
    namespace: String,
    name: String,
    identity: String,
}

/// What is known of the Lease: how it was when it last changed, and when that was by our own clock.
struct Observed {
    lease: Option<Lease>,
    at: Instant,
}

/// What to do about a Lease.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// There is none: make it.
    Create,
    /// It is ours, or was nobody's for too long: write it.
    Take,
    /// Somebody else has it.
    Wait,
}

fn decide(lease: Option<&Lease>, identity: &str, unchanged_for: Duration) -> Move {
    let Some(lease) = lease else { return Move::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(DURATION.as_secs());
    if holder.is_empty() || holder == identity || unchanged_for > Duration::from_secs(seconds) {
        Move::Take
    } else {
        Move::Wait
    }
}

impl Candidate {
    /// A candidate for the Lease of that name; `identity` is its own among all candidates.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let [namespace, name, identity] = [namespace, name, identity].map(str::to_owned);
        Self { client, namespace, name, identity }
    }

    /// Waits until it leads.
    pub async fn lead(&self) -> Leading {
        let mut observed = Observed { lease: None, at: Instant::now() };
        loop {
            match self.try_once(&mut observed).await {
                Ok(true) => return Leading { candidate: self.clone(), observed },
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the lease can't be had"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Gives the Lease up, so that another one need not wait until it has run out. Fine if it is somebody else's.
    ///
    /// # Errors
    /// The cluster's; the Lease runs out by itself then.
    pub async fn release(&self) -> Result<(), Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(mut lease) = api.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.identity)) else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        api.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(())
    }

    async fn try_once(&self, observed: &mut Observed) -> Result<bool, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let present = api.get_opt(&self.name).await?;
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        if version(&present) != version(&observed.lease) {
            *observed = Observed { lease: present.clone(), at: Instant::now() };
        }
        let now = MicroTime(Timestamp::now());
        let before = present.as_ref().and_then(|l| l.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours && present.is_some())),
            ..Default::default()
        };
        let written = match decide(present.as_ref(), &self.identity, observed.at.elapsed()) {
            Move::Wait => return Ok(false),
            Move::Create => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..Default::default() };
                api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
            }
            Move::Take => {
                let metadata = present.map(|lease| lease.metadata).unwrap_or_default();
                // With its resourceVersion: of two who take it one fails.
                api.replace(&self.name, &PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
            }
        };
        match written {
            Ok(lease) => {
                *observed = Observed { lease: Some(lease), at: Instant::now() };
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Who leads, as long as it renews.
pub struct Leading {
    candidate: Candidate,
    observed: Observed,
}

impl Leading {
    /// Renews until that is not possible any more: then another one may lead already.
    pub async fn lost(mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(RETRY).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.candidate.try_once(&mut self.observed)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease can't be renewed"),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_left_for_too_long() {
        let held_by = |holder: &str| Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                ..Default::default()
            }),
            ..Default::default()
        };
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "a", seconds(0)), Move::Create);
        assert_eq!(decide(Some(&held_by("")), "a", seconds(0)), Move::Take);
        assert_eq!(decide(Some(&held_by("a")), "a", seconds(99)), Move::Take);
        assert_eq!(decide(Some(&held_by("b")), "a", seconds(15)), Move::Wait);
        assert_eq!(decide(Some(&held_by("b")), "a", seconds(16)), Move::Take);
    }
}
