//! The phases of the process, as the status, the metrics and the page have them.

crate::policy::words! {
    /// A phase of the process, in their order. A service may skip some, and never goes back.
    #[derive(Default)]
    ProcessPhase {
        /// Resources are opened; no file is taken.
        #[default]
        Starting = "STARTING",
        Ready = "READY",
        /// A stop was requested: no file is taken any more.
        Closing = "CLOSING",
        /// Files in flight are finished.
        Draining = "DRAINING",
        /// Unfinished files are left to the next start, finished ones are committed.
        Committing = "COMMITTING",
        Stopped = "STOPPED",
    }
}
