//! End-to-end: the real binary, stock kubectl, real containers and a real network. Needs root and the images that
//! `make images` assembles. Each test has an instance of its own, which is gone when the test ends, however it ends.

mod client;
mod cluster;

mod attach;
mod bad_days;
mod bad_input;
mod building;
mod churn;
mod csi;
mod csi_driver;
mod debug;
mod docker;
mod gateway;
mod guestbook;
mod images;
mod interop;
mod lifecycle;
mod logs;
mod loop_device;
mod nft;
mod node;
mod operator;
mod patterns;
mod placing;
mod pods;
mod probes;
mod quotas;
mod services;
mod simulate;
mod storage;
mod streams;
mod users;
mod volumes;
