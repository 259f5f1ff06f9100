//! The API server as its clients see it: in process and over TLS, on an embedded store.

mod suite;
