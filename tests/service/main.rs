//! The service as a real process, on real files.

#![cfg(feature = "failpoints")]

mod harness;

mod drain;
mod kill;
mod real_tree;
mod resources;
mod watch;
