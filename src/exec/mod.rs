//! A user's programs as transforms (`exec:NAME`): each run has a sandbox, limits and a supervisor of its
//! own.
//!
//! ```text
//! the service, in its sandbox      the runner, started before it      a run
//!   transform ── request, pipes ──▶ serve ── starts ───────────────▶ supervise ── starts ──▶ the program
//!        ├──────── the input ──────────────────────────────────────────────────────────────▶ stdin
//!        ◀──────── the output ─────────────────────────────────────────────────────────────── stdout
//!        ◀──────── the report ───────────────────────────────────── control
//! ```
//!
//! The sandbox keeps the service from starting programs. A small process of the same binary does it: it
//! receives the configured programs once, before the first file is read, and a request only names one of
//! them, so that an attacker in the service cannot make it run anything else.
//!
//! E1: an output counts only after the program exited with 0, its output has ended, and everything that it
//! started is dead.
//! E2: a run ends when its transform is dropped, whatever happened to the service: the supervisor notices
//! that its control socket has closed, and kills all descendants of the program, also those that left its
//! process group.
//! E3: a program reads the system's programs and libraries, what `read` and `write` name, and a directory
//! of its own; it has no privileges, no other variables of the service's environment, and without `network`
//! no TCP.
//!
//! What a program makes is published exactly once: after the intent, recovery publishes the staged output
//! and does not run the program again. Every other effect of it happens at least once.

mod client;
mod descendants;
mod messages;
mod program;
mod runner;
mod scratch;
mod supervisor;
mod transform;

pub use client::{Client, RunnerProcess, spawn};
pub use program::main as program_main;
pub use runner::main as runner_main;
pub use supervisor::main as supervisor_main;
pub use transform::PipelineRunner;
