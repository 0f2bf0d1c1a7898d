//! The restrictions of the process: it enters them before its first thread starts, every thread
//! inherits them, and nothing lifts them.
//!
//! F1: on a kernel with Landlock, the process opens, creates, renames and removes nothing outside of
//! its [`SandboxRules`], whatever code it runs.
//! F2: the process keeps only the privileges that files of other users need ([`drop_privileges`]).
//!
//! Both hold for the calling thread and those that it starts, so they come before the runtime.

mod landlock;
mod privileges;

pub use self::{
    landlock::{Coverage, Enforced, Error, SandboxRules, restrict},
    privileges::{RetainedCaps, drop_privileges},
};

crate::policy::words! {
    /// The state of the sandbox of this process.
    #[derive(Default)]
    SandboxState {
        /// The kernel enforces all rules.
        Active = "active",
        /// An older kernel enforces a part of them.
        Partial = "partial",
        /// The kernel enforces none.
        #[default]
        Unavailable = "unavailable",
        /// Disabled by the configuration.
        Off = "off",
    }
}

impl From<Coverage> for SandboxState {
    fn from(coverage: Coverage) -> Self {
        match coverage {
            Coverage::Whole => Self::Active,
            Coverage::Part => Self::Partial,
            Coverage::None => Self::Unavailable,
        }
    }
}
