//! Consistent hashing: which member of a pool a key belongs to, placed as twemproxy and nginx place it. Pure.
