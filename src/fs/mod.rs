//! The program's own file-system calls: every open, rename, unlink and sync goes through here.
//!
//! Names are looked up below a directory handle, never through a symbolic link, so that nobody who
//! can write into a watched directory can lead the service out of it.

mod bulk;
mod calls;
mod content;
mod copy;
mod dir;
mod lease;
mod lock;
mod made;
mod named;
mod place;
mod probe;
mod reach;
mod rename;
mod socket;
mod temp;
mod walk;

pub use bulk::{copy_range, expect_in_order, has_hole, share_content, start_writeback};
pub use calls::give_back_large_buffers;
pub use content::{hash_of, keeps_file};
pub use copy::{content_hash, copy, have_same_content};
pub use dir::{Dir, Kind, Seen, identity_of, seen_of};
pub use lease::{Writers, ask_for_writers};
pub use lock::{Lock, LockError};
pub use named::{OWN, SHARED, file_id, make_own, make_shared, owner, replace_own};
pub use place::{
    Unwritten, boot_id, directory_at, is_mount, is_network, sync_file_system, syncs_whole,
};
pub use probe::{Abilities, Kept, Renames, probe};
pub use reach::Reach;
pub use rename::{Replace, SecondName};
pub use socket::{Socket, SocketError};
pub use temp::{
    Instance, Temp, copy_attributes, free_number, is_ours, live_temps, numbered, private_name,
};
pub use walk::{Found, Walk};

/// The directory part of a path below a root (empty for a name in the root itself) and the name.
#[must_use]
pub fn split(path: &std::path::Path) -> (&std::path::Path, &std::ffi::OsStr) {
    let parent = path.parent().unwrap_or_else(|| std::path::Path::new(""));
    (parent, path.file_name().unwrap_or_default())
}
