#![doc = include_str!("README.md")]
//!
//! # Phases and escalation
//!
//! A [`Lifecycle`] is a stack. [`start`](Lifecycle::start) opens a resource and pushes its
//! close, [`spawn`](Lifecycle::spawn) starts a background task and pushes its stop, and
//! [`stop`](Lifecycle::stop) pops everything, the last entry first. [`Signals`] and [`Deadlines`]
//! decide when the stop begins and how long it may take:
//!
//! ```text
//! STARTING → READY → CLOSING → DRAINING → COMMITTING → STOPPED
//!              first signal ↑              ↑ second signal, or the deadline less the reserve: `cut`
//!              or request: `closing`         third signal, or the deadline: `forced_stop`
//! ```
//!
//! A service enters READY and DRAINING with [`Handle::enter`]; the lifecycle enters the other phases.
//!
//! # Invariants
//!
//! - **L1** `stop` goes through the stack in exactly the reverse order of registration: a task
//!   started after a resource has ended, with all it owned dropped, before the resource is
//!   closed.
//! - **L2** Each resource is closed once, also when a start failed, and when an earlier close
//!   failed, panicked or overran its limit. The one exception is L6.
//! - **L3** Every wait has a limit: each start, each close, each task, and the stop as a whole.
//! - **L4** A task that fails, panics or has to be cancelled is named in the [`Report`]; the first
//!   failure also resolves [`Handle::failed`].
//! - **L5** Phases only move forward. Once `closing` is cancelled the phase is at least CLOSING,
//!   once `cut` is cancelled at least COMMITTING.
//! - **L6** `closing` comes before `cut`, `cut` before `forced_stop`. After `forced_stop`, `stop`
//!   runs nothing more, names the resources it did not close, and returns.
//! - **L7** The signals are followed on a separate thread, so `forced_stop` resolves even when
//!   every thread of the runtime is blocked.
//! - **L8** A step of the stop is taken before it is logged: a log that nobody reads delays none.
//!
//! Not promised: code that blocks its thread cannot be cancelled, and a runtime with no free thread
//! keeps no limits: then only `forced_stop` works (L7). Blocking work belongs in `spawn_blocking`
//! or on a separate thread, and watches the `cut` token. The report is a value, and the
//! caller acts on `forced_stop`.
//!
//! # Log
//!
//! The crate logs with `tracing`. The field `event` stays the same when a message is reworded:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `service.phase` | info | `phase` |
//! | `resource.opened` | debug | `resource`, `seconds` |
//! | `resource.closed` | debug; error if the close failed or overran its limit | `resource`, `seconds`, `outcome` |
//! | `service.task_failed` | error | `task`, `error` |
//! | `service.tasks_blocked` | error | `alive` |
//! | `service.panic` | error | |
//!
//! # A small HTTP service
//!
//! The [example](#example), `examples/http.rs`:
//!
//! ```no_run
#![doc = include_str!("examples/http.rs")]
//! ```

#![warn(missing_docs)]

mod phase;

mod handle;
mod signals;

mod stack;
mod tasks;

mod error;
mod report;

#[cfg(test)]
mod fixture;

pub use error::BoxError;
pub use handle::{Deadlines, Handle, SIGNAL_DEBOUNCE};
pub use phase::Phase;
pub use report::{CloseOutcome, ClosedResource, FAILURES_KEPT, Report, TaskFailure, TasksReport};
pub use signals::Signals;
pub use stack::{Lifecycle, StartError};
pub use tasks::{Refused, StopFlag, Tasks};

/// Name of a resource or a task in errors, logs and the report.
pub type Name = std::borrow::Cow<'static, str>;
