//! Placement, key by key: against tables taken from nutcracker and nginx, and against the programs themselves.

mod cases;
mod golden;
mod movement;
mod nginx;
mod nutcracker;
