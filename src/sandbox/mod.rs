//! What the process gives up before its first thread starts: every thread inherits it, and nothing
//! gives it back.
//!
//! F1: nothing outside what [`SandboxRules`] names is opened, made, renamed or removed, by whatever code
//! the process is made to run, where the kernel knows Landlock.
//! F2: no privilege is held but those that files of other users need ([`drop_privileges`]).
//!
//! Both hold for the calling thread and those that it starts, so they come before the runtime.

mod landlock;
mod privileges;

pub use self::{
    landlock::{Coverage, Enforced, Error, SandboxRules, restrict},
    privileges::{RetainedCaps, drop_privileges},
};
