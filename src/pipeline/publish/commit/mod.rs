//! commit: makes a batch of staged outputs durable, records them and gives them their final names.
//!
//! A batch holds the outputs that arrived while the previous batch was being committed. Three
//! threads share the work: the content of one batch is synced while the previous batch gets its
//! names and the one before that is acknowledged.
//!
//! | thread | step | what is true if power fails right after it |
//! |---|---|---|
//! | [`seal`] | `fsync` every temp, on the descriptor that wrote it, and its directory: all concurrently, one after the other for a single file; or one `syncfs` for many temps where little else is unwritten | temps without an intent exist: recovery deletes them |
//! | [`publish`] | check the source's name again; the job ends if the name is gone or belongs to another file | as above |
//! | | write the intents: one durable transaction for the batch | recovery publishes the temps |
//! | | with `checksum`, the same for the output's checksum file, right before it | a checksum file may exist without its output: recovery publishes that |
//! | | `renameat2(temp → final, NOREPLACE)`, or as the policy says; `linkat` where the file system has no such rename | some outputs are renamed: recovery does the rest |
//! | [`acknowledge`] | `fsync` the directories; `unlinkat(temp)` where `linkat` was used, and `fsync` again | some outputs have both names: recovery removes the temporary one |
//! | | acknowledge | the outputs are durable, the sources still exist |
//!
//! C1: an intent is recorded only for a temp whose content and name are durable.
//! C2: a final name appears only after its intent is durable.
//! C3: an acknowledgement is given only after the final name is durable.
//! C4: a temp with an intent is removed only after the intent was withdrawn, durably.
//! C5: a failed `fsync` is never repeated on the same file: the temp is dropped and the source is
//! read again. A failed sync of a directory or of the ledger ends all publishing
//! ([`Halt`](crate::pipeline::halt::Halt)).
//! C6: an output whose content was lost on its way to the disk gets no intent
//! ([`Sink::seal`](crate::sink::Sink::seal)).
//! C7: an output is acknowledged only if its directory was under its path after the output got its
//! name (`displaced.rs`).
//! C8 and C9, about checksum files: [`side_file`](crate::protocol::side_file).
//!
//! The table is that of a local directory: the pipeline's [`Sink`](crate::sink::Sink) carries out the
//! steps on outputs. This stage never reads the source.

pub mod acknowledge;
mod conflict;
mod displaced;
mod intent;
pub mod publish;
pub mod seal;
mod side_name;
mod source_name;

use crate::pipeline::job::Staged;

/// Staged outputs whose content and temporary names are durable (C1).
#[derive(Debug)]
pub struct DurableBatch(pub Vec<Staged>);
