//! The Docker API, driven by the stock `docker` client. Needs root, `docker` and a static `busybox`.

mod suite;
