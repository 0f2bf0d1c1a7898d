//! commit: a batch of staged outputs becomes durable, is recorded, and gets its final names.
//!
//! A batch is what arrived while the one before it was being committed. Three threads share the
//! work, so that one batch's content is synced while the one before it gets its names, and the
//! one before that is acknowledged:
//!
//! | thread | does | true if power fails right after it |
//! |---|---|---|
//! | [`seal`] | `fsync` of every temp, on the descriptor that wrote it, and of their directories, all concurrently ([`sync_pool`]), for a file alone one after the other; or one `syncfs` for many of them, where little else is unwritten ([`group_sync`]) | temps of which nobody knows: recovery deletes them |
//! | [`publish`] | a last look at the source's name: one that is gone or another's ends the job | temps, as above |
//! | | the intent: one durable transaction for the batch | recovery publishes the temps |
//! | | `renameat2(temp → final, NOREPLACE)`, or as the policy says; `linkat` where the file system has no such rename | some renamed: recovery does the rest |
//! | [`acknowledge`] | `fsync` of the directories; `unlinkat(temp)` of what was linked, and `fsync` again | some have both names: recovery removes the temporary one |
//! | | the acknowledgement | outputs durable, the sources are still there |
//!
//! C1: an intent is recorded only for a temp whose content and name are durable.
//! C2: a final name appears only after its intent is durable.
//! C3: an acknowledgement is given only after the final name is durable.
//! C4: a temp with an intent is removed only after the intent was withdrawn, durably.
//! C5: a failed `fsync` is never repeated on the same file: the temp is dropped, the source is read
//! again. A failed sync of a directory or of the ledger ends all publishing ([`Halt`](crate::pipeline::halt::Halt)).
//!
//! C6: an output whose content was lost on its way to the disk gets no intent
//! ([`content_check`](crate::pipeline::content_check)).
//! C7: an output is acknowledged only if its directory was under its path after it got its name
//! (`moved_directories.rs`).
//!
//! Never reads the source.

pub mod acknowledge;
mod attributes;
mod conflict;
pub mod earlier_output;
pub mod group_sync;
mod moved_directories;
pub mod publish;
pub mod seal;
mod source_name;
pub mod sync_pool;

use crate::pipeline::job::Staged;

/// Staged outputs whose content and temporary names are durable (C1).
#[derive(Debug)]
pub struct DurableBatch(pub Vec<Staged>);
