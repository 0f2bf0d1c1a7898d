//! Ordered start-up and clean-up, tracked tasks, phases and signals: what a service needs to
//! begin and to end well. It knows nothing of files, and can be used without the pipeline.
//!
//! A [`Lifecycle`] is a stack. [`start`](Lifecycle::start) opens a resource and pushes its
//! clean-up, [`spawn`](Lifecycle::spawn) starts a background task and pushes its end, and
//! [`stop`](Lifecycle::stop) takes everything off again, the last one first. [`Signals`] and the
//! [`Deadlines`] say when, and how much patience is left:
//!
//! ```text
//! STARTING → READY → CLOSING → DRAINING → COMMITTING → STOPPED
//!              first signal ↑              ↑ second signal, or the deadline less the reserve: `cut`
//!              or request: `closing`         third signal, or the deadline: `leave`
//! ```
//!
//! # Invariants
//!
//! - **L1** `stop` goes through the stack in exactly the reverse order of registration: a task
//!   started after a resource has ended, with all it owned dropped, before the resource is
//!   released.
//! - **L2** Each clean-up is run once, also when a start failed, and when an earlier clean-up
//!   failed, panicked or overran its limit. The one exception is L6.
//! - **L3** Nothing is waited for without a limit: not a start, a clean-up, a task, nor the whole.
//! - **L4** A task that fails, panics or has to be cancelled is named in the [`Report`]; the first
//!   failure also resolves [`Handle::failed`].
//! - **L5** Phases only move forward. When `closing` is seen the phase is at least CLOSING, when
//!   `cut` is seen at least COMMITTING.
//! - **L6** `closing` comes before `cut`, `cut` before `leave`. After `leave`, `stop` runs nothing
//!   more, names what it left undone, and returns.
//! - **L7** The signals are followed on a thread of their own, so `leave` resolves even when every
//!   thread of the runtime is blocked.
//! - **L8** A step of the stop is taken before it is logged: a log that nobody reads holds up none.
//!
//! Not promised: code that blocks its thread cannot be cancelled, and a runtime with no free thread
//! keeps no limits: then only `leave` is left (L7). Blocking work belongs into `spawn_blocking` or
//! on a thread of its own, and watches the `cut` token. Nothing here prints or ends the process: the
//! report is a value, and acting on `leave` is up to the caller.
//!
//! # Use
//!
//! ```
//! use std::{convert::Infallible, error::Error, sync::mpsc, time::Duration};
//! use tidemill::lifecycle::{Deadlines, Lifecycle, Phase, Signals};
//!
//! const LIMIT: Duration = Duration::from_secs(5);
//!
//! async fn serve(life: &mut Lifecycle) -> Result<(), Box<dyn Error>> {
//!     // The scope owns the receiver until its clean-up; the caller gets the sender to use.
//!     let open = async {
//!         let (letters, mailbox) = mpsc::channel();
//!         Ok::<_, Infallible>((mailbox, letters))
//!     };
//!     let close = |mailbox: mpsc::Receiver<&'static str>| async move {
//!         if mailbox.try_iter().eq(["hello", "goodbye"]) { Ok(()) } else { Err("letters lost") }
//!     };
//!     let letters = life.start("mailbox", LIMIT, open, close).await?;
//!     letters.send("hello")?;
//!
//!     life.spawn("clerk", LIMIT, |stop| async move {
//!         stop.stopped().await;
//!         letters.send("goodbye")
//!     });
//!
//!     life.handle().enter(Phase::Ready);
//!     # life.handle().request_stop();
//!     tokio::select! {
//!         () = life.handle().closing().cancelled_owned() => Ok(()), // SIGTERM, SIGINT, a request
//!         failure = life.handle().failed() => Err(failure.into()),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! let mut life = Lifecycle::new(Deadlines::default(), Signals::register()?)?;
//! let served = serve(&mut life).await;
//! let report = life.stop().await; // also after a failed start
//! println!("{report}");
//! assert!(served.is_ok() && report.is_clean());
//! # Ok(())
//! # }
//! ```

mod phase;

mod handle;
mod signals;

mod stack;
mod tasks;

mod error;
mod report;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use handle::{Deadlines, Handle};
pub use phase::Phase;
pub use report::{CleanUp, End, FAILURES_KEPT, Report, TaskFailure, TasksReport};
pub use signals::Signals;
pub use stack::{Lifecycle, StartError};
pub use tasks::{Refused, StopFlag, Tasks};

/// What a hook or a task is called in errors, logs and the report.
pub type Name = std::borrow::Cow<'static, str>;
