//! The kinds that metrics are told apart by.

crate::policy::words! {
    /// How a file ended.
    OutcomeKind {
        Published = "published",
        Skipped = "skipped",
        Quarantined = "quarantined",
        /// Handed back: it goes through the intake again, now or at the next start.
        Deferred = "deferred",
    }
}

crate::policy::words! {
    /// What was made durable.
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
