//! Named places where a test kills, signals or fails the process. Compiled away in a release.
//!
//! `FAILPOINTS=commit::intent=1*off->return(kill)` is the syntax of the `fail` crate; the words that
//! `return` takes here are `kill` (SIGKILL to itself), `term` (SIGTERM to itself), and the name of an
//! error (`enospc`, `eio`, `erofs`, `ebusy`), which the place then meets instead of doing its work; and
//! `while:PATH`, which stands still for as long as there is such a file.

/// All of them, in the order of a file's way.
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

/// Those of the events file, each time that it is written, and of the ledger, each time that its log is
/// moved into the database.
pub const STORE_NAMES: [&str; 3] = ["events::append", "events::sync", "ledger::checkpoint"];

/// Those of recovery.
pub const RECOVERY_NAMES: [&str; 3] =
    ["recovery::named", "recovery::acknowledged", "recovery::marked"];

/// Those that only a file system meets which cannot rename in one call, between one name and the
/// other, or a move from one file system to another.
pub const DETOUR_NAMES: [&str; 6] =
    ["link::made", "link::durable", "commit::unlink", "move::chunk", "move::copied", "move::named"];

/// Those where only an error makes sense.
pub const ERROR_NAMES: [&str; 4] =
    ["commit::withdraw", "recovery::rename", "recovery::unlink", "recovery::directory"];

/// What the promise rests on, each of which a test can leave out with `return(out)`, to see that the
/// proofs notice (`tests/proofs/powerloss/mutants.rs`). That one step overtakes another is the same as
/// leaving out the barrier between them.
pub const BARRIERS: [&str; 20] = [
    "barrier::new_directory",
    "barrier::temp",
    "barrier::temp_directory",
    "barrier::intent",
    "barrier::intent_sync",
    "barrier::final_directory",
    "barrier::second_directory",
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
    "barrier::recovered_directory",
    "barrier::recovered_mark",
];

/// What depends on the machine: its other work, and what its file systems can do. With `return(out)`
/// it is as if it did none, and as if they could not.
pub const GATES: [&str; 3] = ["gate::unwritten", "gate::no_replace", "gate::links"];

/// Does this step, unless a test leaves it out.
#[inline]
pub(crate) fn barrier<T: Default, E>(
    name: &str,
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if is_skipped(name) { Ok(T::default()) } else { step() }
}

/// Whether a test leaves this barrier or gate out.
#[cfg(feature = "failpoints")]
pub(crate) fn is_skipped(name: &str) -> bool {
    fail::eval(name, |word| word.as_deref() == Some("out")) == Some(true)
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) const fn is_skipped(_: &str) -> bool {
    false
}

/// A place where only kills and signals make sense.
pub(crate) fn pass(name: &str) {
    // An error asked for here has nobody to meet it.
    hit(name).ok();
}

/// Runs the failpoint of this name; with `?`-able result so that errors can be injected.
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
        _ => Errno::IO,
    };
    Err(errno.into())
}
