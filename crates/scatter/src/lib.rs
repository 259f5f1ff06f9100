//! The root of scatter/gather: fan out, hedge, merge.
