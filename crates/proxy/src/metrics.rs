//! What is counted, and how Prometheus is told.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::edge::Shared;
use crate::pool::now_millis;

/// Upper bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts of a route.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Requests by the first digit of their status; 0: the client left.
    classes: [AtomicU64; 6],
    /// Body bytes from clients.
    pub bytes_in: AtomicU64,
    /// Body bytes to clients.
    pub bytes_out: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Default for RouteMetrics {
    fn default() -> Self {
        Self {
            classes: Default::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
        }
    }
}

impl RouteMetrics {
    /// A request has ended.
    pub fn count(&self, status: u16, bytes_in: u64, bytes_out: u64, took: Duration) {
        self.classes[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
        if bytes_in > 0 {
            self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        }
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Requests with a status of this class.
    pub fn class(&self, first_digit: usize) -> u64 {
        self.classes[first_digit].load(Ordering::Relaxed)
    }
}

/// Counts of a listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections closed at once because there were too many.
    pub refused: AtomicU64,
    /// TLS handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// Requests that were no HTTP, or more than the limits allow.
    pub bad_requests: AtomicU64,
    /// Bytes or datagrams' bytes from clients (TCP and UDP).
    pub bytes_in: AtomicU64,
    /// Bytes to clients (TCP and UDP).
    pub bytes_out: AtomicU64,
}

/// Tells of the site in force.
pub struct SiteCollector(pub Arc<Shared>);

impl fmt::Debug for SiteCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteCollector")
    }
}

type Labels<'a> = Vec<(&'a str, String)>;
/// A result's name, and where it is counted.
type Counted = (&'static str, fn(&crate::cache::Counts) -> u64);
/// A metric of a cache's disk: its name, its help, and where it is counted.
type Told = (&'static str, &'static str, fn(&crate::cache::DiskCounts) -> u64);

/// Writes one metric with all its samples.
fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a>, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for SiteCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let site = self.0.site();
        let encoder = &mut encoder;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let routes = || site.listeners.iter().flat_map(|l| l.routes().map(move |r| (l, r)));
        let of = |l: &crate::site::Listener, r: &crate::site::Route| {
            vec![("listener", l.name.clone()), ("route", r.name.clone())]
        };
        let requests = routes().flat_map(|(l, r)| {
            (0..6).filter(|class| r.metrics.class(*class) > 0).map(move |class| {
                let mut labels = of(l, r);
                labels.push(("code", if class == 0 { "none".into() } else { format!("{class}xx") }));
                (labels, r.metrics.class(class))
            })
        });
        counters(encoder, "hythe_proxy_requests", "Requests by class of status", requests)?;
        counters(
            encoder,
            "hythe_proxy_request_bytes",
            "Body bytes from clients",
            routes().map(|(l, r)| (of(l, r), load(&r.metrics.bytes_in))),
        )?;
        counters(
            encoder,
            "hythe_proxy_response_bytes",
            "Body bytes to clients",
            routes().map(|(l, r)| (of(l, r), load(&r.metrics.bytes_out))),
        )?;
        {
            let mut family = encoder.encode_descriptor(
                "hythe_proxy_duration_seconds",
                "From a request to the end of its answer",
                None,
                MetricType::Histogram,
            )?;
            for (l, r) in routes() {
                let counts: Vec<u64> = r.metrics.buckets.iter().map(load).collect();
                let buckets: Vec<(f64, u64)> =
                    BOUNDS.iter().copied().chain([f64::MAX]).zip(counts.iter().copied()).collect();
                let labels = of(l, r);
                let mut metric = family.encode_family(&labels)?;
                metric.encode_histogram::<prometheus_client::encoding::NoLabelSet>(
                    load(&r.metrics.micros) as f64 / 1e6,
                    counts.iter().sum(),
                    &buckets,
                    None,
                )?;
            }
        }
        let mirrors = || routes().flat_map(move |(l, r)| r.mirrors.iter().map(move |m| (of(l, r), &*m.comparison)));
        let with = |labels: &Labels<'static>, pool: &str, result: &str| {
            let mut labels = labels.clone();
            labels.extend([("pool", pool.to_owned()), ("result", result.to_owned())]);
            labels
        };
        counters(
            encoder,
            "hythe_proxy_mirror_requests",
            "Requests copied, and not copied because of their size or of too many under way",
            mirrors().flat_map(|(labels, mirror)| {
                [("copied", &mirror.copied), ("skipped", &mirror.skipped)]
                    .map(|(result, count)| (with(&labels, mirror.pool(), result), load(count)))
            }),
        )?;
        counters(
            encoder,
            "hythe_proxy_mirror_answers",
            "Copies whose answer had production's status, and others",
            mirrors().flat_map(|(labels, mirror)| {
                let (same, different) = mirror.statuses();
                [("same", same), ("different", different)]
                    .map(|(result, count)| (with(&labels, mirror.pool(), result), count))
            }),
        )?;
        let listeners = |value: fn(&ListenerMetrics) -> &AtomicU64| {
            site.listeners
                .iter()
                .map(move |l| (vec![("listener", l.name.clone())], value(&l.metrics).load(Ordering::Relaxed)))
                .collect::<Vec<_>>()
        };
        counters(encoder, "hythe_proxy_connections", "Connections accepted", listeners(|m| &m.accepted))?;
        counters(
            encoder,
            "hythe_proxy_connections_refused",
            "Connections closed at once because there were too many",
            listeners(|m| &m.refused),
        )?;
        counters(
            encoder,
            "hythe_proxy_handshakes_failed",
            "TLS handshakes that failed",
            listeners(|m| &m.handshakes_failed),
        )?;
        let secured = || site.listeners.iter().filter_map(|l| Some((l, &l.tls.as_ref()?.1)));
        counters(
            encoder,
            "hythe_proxy_handshakes_unmatched",
            "TLS handshakes that asked for a name no certificate is for",
            secured().map(|(l, c)| (vec![("listener", l.name.clone())], load(&c.unmatched))),
        )?;
        counters(
            encoder,
            "hythe_proxy_certificate_failures",
            "Times that changed certificate files could not be used",
            secured().map(|(l, c)| (vec![("listener", l.name.clone())], load(&c.failures))),
        )?;
        gauges(
            encoder,
            "hythe_proxy_certificate_end_seconds",
            "When a certificate ends to hold, since the epoch",
            secured().flat_map(|(l, c)| {
                c.shown().into_iter().map(|one| {
                    let labels = vec![("listener", l.name.clone()), ("certificate", one.file.display().to_string())];
                    (labels, i64::try_from(one.not_after).unwrap_or(i64::MAX))
                })
            }),
        )?;
        counters(
            encoder,
            "hythe_proxy_bad_requests",
            "Requests refused before a route was looked for",
            listeners(|m| &m.bad_requests),
        )?;
        counters(
            encoder,
            "hythe_proxy_received_bytes",
            "Bytes from clients over TCP and UDP listeners",
            listeners(|m| &m.bytes_in),
        )?;
        counters(
            encoder,
            "hythe_proxy_sent_bytes",
            "Bytes to clients over TCP and UDP listeners",
            listeners(|m| &m.bytes_out),
        )?;
        let open = listeners(|m| &m.open).into_iter().map(|(labels, n)| (labels, n as i64));
        gauges(encoder, "hythe_proxy_open_connections", "Connections open", open)?;
        let pools = || site.pools.values();
        let pool = |name: &str| vec![("pool", name.to_owned())];
        counters(
            encoder,
            "hythe_proxy_pool_overflows",
            "Requests refused because the pool was full",
            pools().map(|p| (pool(&p.config.name), load(&p.overflows))),
        )?;
        counters(
            encoder,
            "hythe_proxy_pool_empty",
            "Requests for which no endpoint was well",
            pools().map(|p| (pool(&p.config.name), load(&p.empty))),
        )?;
        counters(
            encoder,
            "hythe_proxy_pool_retries",
            "Attempts after the first",
            pools().map(|p| (pool(&p.config.name), load(&p.retries))),
        )?;
        counters(
            encoder,
            "hythe_proxy_pool_certificates_refused",
            "Connections given up because an endpoint's certificate is not to be trusted",
            pools().map(|p| (pool(&p.config.name), load(&p.connector.refused))),
        )?;
        let now = now_millis();
        let endpoints: Vec<_> = pools()
            .flat_map(|p| {
                p.members()
                    .endpoints
                    .iter()
                    .map(|e| {
                        (vec![("pool", p.config.name.clone()), ("endpoint", e.address.to_string())], Arc::clone(e))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let each = || endpoints.iter();
        counters(
            encoder,
            "hythe_proxy_endpoint_requests",
            "Requests or connections given to an endpoint",
            each().map(|(l, e)| (l.clone(), load(&e.requests))),
        )?;
        counters(
            encoder,
            "hythe_proxy_endpoint_errors",
            "How many of them failed",
            each().map(|(l, e)| (l.clone(), load(&e.errors))),
        )?;
        gauges(
            encoder,
            "hythe_proxy_endpoint_active",
            "Requests or connections in flight",
            each().map(|(l, e)| (l.clone(), i64::from(e.active()))),
        )?;
        gauges(
            encoder,
            "hythe_proxy_endpoint_up",
            "1 if it is used",
            each().map(|(l, e)| (l.clone(), i64::from(e.is_open(now)))),
        )?;
        let caches: Vec<_> = site.caches.values().map(|c| (vec![("cache", c.name().to_owned())], c.counts())).collect();
        let results: [Counted; 5] = [
            ("hit", |c| c.hits),
            ("stale", |c| c.stale),
            ("miss", |c| c.misses),
            ("revalidated", |c| c.revalidated),
            ("pass", |c| c.passed),
        ];
        let samples = caches.iter().flat_map(|(labels, counts)| {
            results.iter().map(move |(name, value)| {
                let mut labels = labels.clone();
                labels.push(("result", (*name).to_owned()));
                (labels, value(counts))
            })
        });
        counters(encoder, "hythe_proxy_cache_requests", "Requests by what the cache did", samples)?;
        counters(
            encoder,
            "hythe_proxy_cache_evictions",
            "Responses that left for lack of room",
            caches.iter().map(|(l, c)| (l.clone(), c.evicted)),
        )?;
        gauges(
            encoder,
            "hythe_proxy_cache_bytes",
            "Memory of stored responses",
            caches.iter().map(|(l, c)| (l.clone(), c.bytes as i64)),
        )?;
        gauges(
            encoder,
            "hythe_proxy_cache_entries",
            "Stored responses",
            caches.iter().map(|(l, c)| (l.clone(), c.entries as i64)),
        )?;
        let disks = || caches.iter().filter_map(|(labels, counts)| Some((labels.clone(), counts.disk?)));
        let told: [Told; 4] = [
            ("hythe_proxy_cache_disk_hits", "Responses read from disk", |d| d.hits),
            ("hythe_proxy_cache_disk_writes", "Responses written to disk", |d| d.writes),
            ("hythe_proxy_cache_disk_evictions", "Responses that left the disk for lack of room", |d| d.evictions),
            ("hythe_proxy_cache_disk_errors", "Writes that failed, and files that were broken", |d| d.errors),
        ];
        for (name, help, value) in told {
            counters(encoder, name, help, disks().map(|(labels, disk)| (labels, value(&disk))))?;
        }
        let told: [Told; 3] = [
            ("hythe_proxy_cache_disk_up", "1 if the disk takes responses; 0: memory alone is used", |d| {
                u64::from(d.up)
            }),
            ("hythe_proxy_cache_disk_bytes", "Disk that stored responses take", |d| d.bytes),
            ("hythe_proxy_cache_disk_entries", "Responses on disk", |d| d.entries),
        ];
        for (name, help, value) in told {
            gauges(encoder, name, help, disks().map(|(labels, disk)| (labels, value(&disk) as i64)))?;
        }
        let limits = site.limits.counts();
        let samples = limits.into_iter().map(|(name, allowed, count)| {
            (
                vec![("limit", name), ("result", if allowed { "allowed".to_owned() } else { "refused".to_owned() })],
                count,
            )
        });
        counters(encoder, "hythe_proxy_limited_requests", "Requests a rate limit judged", samples)
    }
}
