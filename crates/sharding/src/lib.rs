//! The sharding ambassador for Redis, memcached and HTTP.
