//! The sharding proxy before real redis-server and memcached processes, beside nutcracker, and on bad days.

mod bad_days;
mod changes;
mod fuzz;
mod manual;
mod memcached;
mod redis;
mod settings;
mod support;
mod uploads;
