//! The program's file-system calls: every open, rename, unlink and sync goes through here.
//!
//! Names are looked up below a directory handle, never through a symbolic link, so that no user who
//! can write into a watched directory can lead the service out of it.

mod access;
mod content;
mod copy;
mod dir;
mod extended;
mod filesystem;
mod kernel_io;
mod lease;
mod lock;
mod new_directories;
mod numbered;
mod patient_walk;
mod private_files;
mod probe;
mod publish;
mod rename;
mod sandbox_scope;
mod socket;
mod sys;
mod temp;
mod tree;
mod walk;

pub use access::{AccessDenied, access_denied, share_with_group};
pub use content::{fill, hash_of, keeps_file};
pub use copy::{content_hash, copy, have_same_content};
pub use dir::{Dir, FileMetadata, Kind, directory_at, identity_of, metadata_of};
pub use extended::{ExtendedAttributes, remove_acl};
pub use filesystem::{
    DirtyPages, boot_id, free_bytes, is_mount, is_network, is_remote, prefers_syncfs,
    sync_file_system,
};
pub use kernel_io::{advise_sequential, copy_range, has_hole, share_content, start_writeback};
pub use lease::{Writers, check_writers};
pub use lock::{Lock, LockError, LockHolder};
pub use numbered::{free_number, latest_number, numbered_name};
pub use patient_walk::PatientWalk;
pub use private_files::{
    LEDGER_NAME, LOCK_NAME, OWN_DIR_MODE, SHARED_DIR_MODE, file_id, is_state_dir, make_own,
    make_shared, owner, replace_own, state_dir_of,
};
pub use probe::{Abilities, KeptAttributes, Renames, probe};
pub use publish::SecondName;
pub use rename::Overwrite;
pub use sandbox_scope::SandboxScope;
pub use socket::{Socket, SocketError};
pub use sys::set_mmap_threshold;
pub use temp::{
    NodeId, Temp, copy_attributes, is_internal_name, live_temps, private_name, temp_of,
};
pub use tree::remove_tree;
pub use walk::{Walk, WalkEntry};

/// Splits a path below a root into its directory (empty for a name in the root) and its name.
#[must_use]
pub fn split(path: &std::path::Path) -> (&std::path::Path, &std::ffi::OsStr) {
    let parent = path.parent().unwrap_or_else(|| std::path::Path::new(""));
    (parent, path.file_name().unwrap_or_default())
}
