//! How many volumes a driver can have on the node, asked again and again if its CSIDriver wants that, and when it turns
//! out that there is no room for one more (KEP-4876).

use std::{path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::{Api, runtime::WatchStreamExt};
use tokio_util::sync::CancellationToken;

use super::{announce, driver::Driver};
use crate::context::Context;

/// Asks the driver that registered by that socket until `stop`.
pub async fn keep(context: &Arc<Context>, name: &str, socket: &Path, stop: &CancellationToken) {
    let api: Api<CSIDriver> = Api::all(context.client.clone());
    let mut changes = watching::one(api, name).applied_objects();
    let mut exhausted = context.csi.exhausted();
    let mut period = None;
    loop {
        let next = async {
            match period {
                Some(period) => tokio::time::sleep(period).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = changes.next() => {
                let Ok(driver) = change else { continue };
                let before = std::mem::replace(&mut period, period_of(&driver));
                if period.is_none() || period == before {
                    continue;
                }
            }
            Ok(()) = exhausted.changed() => {
                if period.is_none() || *exhausted.borrow_and_update() != name {
                    continue;
                }
            }
            () = next => {}
        }
        let Some(known) = context.csi.get(name).filter(|driver| driver.registered_by == socket) else { return };
        match Driver::ask(known.name.clone(), known.endpoint.clone(), known.registered_by.clone()).await {
            Ok(driver) if driver.max_volumes != known.max_volumes => {
                context.csi.put(Arc::new(driver));
                announce::write(context, stop).await;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, name, "a driver does not tell how many volumes it can have"),
        }
    }
}

fn period_of(driver: &CSIDriver) -> Option<Duration> {
    let seconds = driver.spec.node_allocatable_update_period_seconds?;
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}
