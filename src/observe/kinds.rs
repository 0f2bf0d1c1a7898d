//! Values of the labels `outcome` and `kind`.

crate::policy::words! {
    /// Outcome of a file.
    OutcomeKind {
        Published = "published",
        Skipped = "skipped",
        Quarantined = "quarantined",
        /// Returned to the intake, now or at the next start.
        Deferred = "deferred",
    }
}

crate::policy::words! {
    /// Object of a sync.
    SyncKind {
        File = "file",
        Directory = "directory",
        FileSystem = "file_system",
        Ledger = "ledger",
    }
}

pub const OUTCOMES: [OutcomeKind; 4] =
    [OutcomeKind::Published, OutcomeKind::Skipped, OutcomeKind::Quarantined, OutcomeKind::Deferred];
pub const SYNCS: [SyncKind; 4] =
    [SyncKind::File, SyncKind::Directory, SyncKind::FileSystem, SyncKind::Ledger];
