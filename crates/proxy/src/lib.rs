//! The L4 and L7 data plane: edge, balancing, splitting, caching, rate limits, TLS.
