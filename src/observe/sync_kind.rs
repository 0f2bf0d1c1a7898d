//! The objects of a sync: values of the label `kind`.

crate::policy::words! {
    /// Object of a sync.
    SyncKind {
        File = "file",
        Directory = "directory",
        FileSystem = "file_system",
        Ledger = "ledger",
    }
}

pub const SYNCS: [SyncKind; 4] =
    [SyncKind::File, SyncKind::Directory, SyncKind::FileSystem, SyncKind::Ledger];
