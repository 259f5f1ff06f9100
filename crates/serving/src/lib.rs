//! What every pattern container shares: parameters, the admin port, live configuration, access logs, traces, a graceful end.
