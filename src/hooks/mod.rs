//! A user's hooks: commands and webhooks that receive notifications. The ledger and the events file
//! are authoritative, and nothing here has an effect on a file.
//!
//! ```text
//! the service, in its sandbox                           the runner, started before the sandbox
//!   events ─▶ queue ─▶ feed ── request (socket) ─▶ run: a command, or a POST
//!                        ◀──── result ─────────────────
//! ```
//!
//! The sandbox keeps the service from running programs and from connecting: a small process of the
//! same binary (`runner`) does both. It receives the hooks once, before the first file is read; after
//! that a request names a hook and carries lines, so that an attacker in the service cannot make it
//! run anything else.
//!
//! H1: acknowledging never waits for a hook: a full queue drops its oldest line, and counts it.
//! H2: a hook has one run at a time; at its timeout, the run and all its processes are killed.
//! H3: no process is left behind: the runner exits with the service, however that exits, and kills its
//! running hooks.
//!
//! Not promised: a notification is lost if the service is killed, if the queue is full for too long,
//! or if the deadline of a stop comes first. A program that leaves its process group is not found.

mod command;
mod dispatch;
mod frames;
mod pidfd;
mod queue;
mod rpc;
mod runner;
mod webhook;

pub use dispatch::{HookContext, HookService, Runner, spawn};
pub use queue::HookQueues;
pub use runner::{main, replace_process};
