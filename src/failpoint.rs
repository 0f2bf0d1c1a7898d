//! Named points at which a test kills, signals or fails the process. A release does not contain them.
//!
//! `FAILPOINTS=commit::intent=1*off->return(kill)` is the syntax of the `fail` crate; the words that
//! `return` takes here are `kill` (SIGKILL to itself), `term` (SIGTERM to itself), the name of an error
//! (`enospc`, `eio`, `erofs`, `ebusy`, `eexist`, `etimedout`, `ehostdown`, `enodev`), which replaces the work at
//! this point, and `while:PATH`, which stalls as long as this file exists.

/// The failpoints of the stages, in the order of the flow.
pub const NAMES: [&str; 20] = [
    "discover",
    "settle",
    "claim",
    "read",
    "transform",
    "write",
    "write::sealed",
    "commit::sync",
    "commit::directory",
    "commit::intent",
    "commit::intended",
    "commit::rename",
    "commit::renamed",
    "commit::acknowledge",
    "commit::acknowledged",
    "commit::mark",
    "commit::marked",
    "dispose",
    "dispose::taken",
    "dispose::unlink",
];

/// The failpoints of each write to the events file, and of each move of the ledger's log into the
/// database.
pub const STORE_NAMES: [&str; 3] = ["events::append", "events::sync", "ledger::checkpoint"];

/// The failpoints of recovery.
pub const RECOVERY_NAMES: [&str; 4] =
    ["recovery::named", "recovery::acknowledged", "recovery::marked", "recovery::disposed"];

/// The failpoints of a rename on a file system that cannot rename in one call, and of a move from one
/// file system to another.
pub const DETOUR_NAMES: [&str; 6] =
    ["link::made", "link::durable", "commit::unlink", "move::chunk", "move::copied", "move::named"];

/// The failpoints of checksum files: before and after one gets its name, after a withdrawn one is removed, and
/// after recovery has written one.
pub const SIDE_FILE_NAMES: [&str; 4] =
    ["commit::side", "commit::side_renamed", "commit::side_undone", "recovery::side_named"];

/// The failpoints of the removal of expired files and records.
pub const RETENTION_NAMES: [&str; 4] =
    ["retention::marked", "retention::taken", "retention::removed", "retention::history"];

/// The failpoints at which only an error makes sense.
pub const ERROR_NAMES: [&str; 10] = [
    "verify",
    "dispose::record",
    "dispose::put_back",
    "quarantine::record",
    "quarantine::report",
    "commit::look_up",
    "commit::withdraw",
    "recovery::rename",
    "recovery::unlink",
    "recovery::directory",
];

/// The operations that durability relies on. A test can omit each one with `return(out)`, to see that
/// the proofs detect it (`tests/proofs/powerloss/mutants.rs`). Two steps in the wrong order are the same as an
/// omitted barrier between them.
pub const BARRIERS: [&str; 34] = [
    "barrier::new_directory",
    "barrier::temp",
    "barrier::temp_directory",
    "barrier::intent",
    "barrier::intent_sync",
    "barrier::final_directory",
    "barrier::second_directory",
    "barrier::linked_name",
    "barrier::copied_source",
    "barrier::copied_name",
    "barrier::content",
    "barrier::moved_directory",
    "barrier::events",
    "barrier::withdrawal",
    "barrier::quarantine",
    "barrier::ledger",
    "barrier::ledger_directory",
    "barrier::attributes",
    "barrier::policy",
    "barrier::marker",
    "barrier::boot",
    "barrier::unchanged",
    "barrier::side_file",
    "barrier::recovered_directory",
    "barrier::recovered_mark",
    "barrier::recovered_name",
    "barrier::writeback",
    "barrier::group_result",
    "barrier::line_proof",
    "barrier::torn_line",
    "barrier::rewritten_lines",
    "barrier::rewritten_ledger",
    "barrier::events_directory",
    "barrier::idle_flush",
];

/// The properties of the machine: its other writes, the features of its file systems, and its time between two
/// rounds of a retention. `return(out)` simulates a machine without them.
pub const GATES: [&str; 5] = [
    "gate::unwritten",
    "gate::no_replace",
    "gate::links",
    "gate::local_state",
    "gate::retention_interval",
];

/// Runs this step, unless a test omits it.
#[inline]
pub(crate) fn barrier<T: Default, E>(
    name: &str,
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if is_skipped(name) { Ok(T::default()) } else { step() }
}

/// Checks whether a test omits this barrier or gate.
#[cfg(feature = "failpoints")]
pub(crate) fn is_skipped(name: &str) -> bool {
    match fail::eval(name, |word| word) {
        Some(Some(word)) if word == "out" => true,
        // A gate that stalls.
        Some(Some(word)) => act(&word).is_err(),
        None | Some(None) => false,
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) const fn is_skipped(_: &str) -> bool {
    false
}

/// Runs the failpoint of this name, at which only kills and signals make sense.
pub(crate) fn pass(name: &str) {
    // An injected error has no effect here.
    hit(name).ok();
}

/// Runs the failpoint of this name and returns its injected error.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) -> std::io::Result<()> {
    match fail::eval(name, |word| word) {
        None | Some(None) => Ok(()),
        Some(Some(word)) => act(&word),
    }
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as with failpoints")]
#[inline]
pub(crate) fn hit(_name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
fn act(word: &str) -> std::io::Result<()> {
    use rustix::{io::Errno, process};
    if let Some(gate) = word.strip_prefix("while:") {
        while std::path::Path::new(gate).exists() {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        return Ok(());
    }
    let errno = match word {
        "kill" | "term" => {
            let signal = if word == "kill" { process::Signal::KILL } else { process::Signal::TERM };
            process::kill_process(process::getpid(), signal)?;
            return Ok(());
        }
        "enospc" => Errno::NOSPC,
        "erofs" => Errno::ROFS,
        "ebusy" => Errno::BUSY,
        "eexist" => Errno::EXIST,
        "etimedout" => Errno::TIMEDOUT,
        "ehostdown" => Errno::HOSTDOWN,
        "enodev" => Errno::NODEV,
        _ => Errno::IO,
    };
    Err(errno.into())
}
