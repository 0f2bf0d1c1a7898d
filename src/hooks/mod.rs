//! The hooks of a user: commands and webhooks that are told what happened. They are notifications:
//! the ledger and the events file are the truth, and nothing here has an effect on a file.
//!
//! ```text
//! the service, in its sandbox                           the runner, started before it closed
//!   events ─▶ queue ─▶ feed ── call (socket) ──▶ run: a command, or a POST
//!                        ◀──── answer ─────────────────
//! ```
//!
//! The sandbox lets the service run no program and connect to nothing, and stays as it is: a small
//! process of the same binary (`runner`) does both. It takes the hooks once, before the first file is
//! looked at; from then on a call names a hook and brings lines, so that who got hold of the service
//! could not make it run anything else.
//!
//! H1: who acknowledges never waits for a hook: a full queue drops its oldest, and counts it.
//! H2: one run of a hook at a time, each with a time after which it and all it started is killed.
//! H3: nothing is left: the runner ends with the service, whatever ends it, and kills what runs.
//!
//! Not promised: a notification is lost where the service is killed, where the queue is full for too
//! long, and where the deadline of a stop comes first. A program that leaves its process group is not
//! found again.

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
