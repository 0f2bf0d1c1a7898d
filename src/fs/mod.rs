//! The program's own file-system calls: every open, rename, unlink and sync goes through here.
//!
//! Names are looked up below a directory handle, never through a symbolic link, so that nobody who
//! can write into a watched directory can lead the service out of it.

mod bulk;
mod calls;
mod content;
mod dir;
mod lease;
mod lock;
mod named;
mod place;
mod reach;
mod socket;
mod temp;
mod walk;

pub use bulk::{copy_range, expect_in_order, share_content};
pub use calls::{give_back_large_buffers, start_writeback};
pub use content::{hash_of, keeps_file};
pub use dir::{Dir, Kind, Replace, Seen, identity_of, seen_of};
pub use lease::{Writers, ask_for_writers};
pub use lock::{Lock, LockError};
pub use named::{OWN, SHARED, make_own, make_shared, owner, replace_own};
pub use place::{Unwritten, boot_id, is_network, sync_file_system, syncs_whole};
pub use reach::Reach;
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
