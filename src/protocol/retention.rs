//! Decides what a retention may remove: a file that its record names and that nobody has changed, and a
//! record that nothing needs any more.
//!
//! Q1: a file is removed only if a record names it and its identity, or the content of a copy, is the recorded
//! one. Q2: a record is removed only if no decision about a file that is there needs it, and after all older
//! records of its path, so that what stays is what a look-up found before.
//!
//! | step | what is true if power fails right after it |
//! |---|---|
//! | mark the record as expired, durably | the file is still there: the next round finds its record by its identity, and removes it |
//! | take the file under a private name, compare it | it has that name: the next round finds its record by the number in it |
//! | remove it | as before or gone; a removal that is undone is done again, because the record still names it |
//! | remove the record, a round later or more | as before or gone; a record that comes back is removed again |

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    fingerprint::Fingerprint,
    fs,
    ledger::{Record, State},
    policy::OnSuccess,
    reason::{Reason, ReasonCode},
};

/// Whether a file is the one that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    No,
    Yes,
    /// It is a copy on another file system: it is the one if its content is equal.
    ByContent,
}

/// Checks whether the retention removed the file of this record.
#[must_use]
pub fn is_expired(record: &Record) -> bool {
    record.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Expired)
}

/// Returns the reason by which a record is marked. The reason of a quarantined file stays readable.
#[must_use]
pub fn expired_reason(record: &Record) -> Reason {
    let text = match (record.state, record.reason_text()) {
        (State::Quarantined, Some(reason)) => {
            format!("{reason} (removed from the quarantine by `retention`)")
        }
        (State::Quarantined, None) => "removed from the quarantine by `retention`".to_owned(),
        _ => "removed from the archive by `retention`".to_owned(),
    };
    Reason::new(ReasonCode::Expired, text)
}

/// Returns the paths that a source may have had, by the path of a file in the archive: the same one, or
/// that without the number which a taken name gets.
pub fn archived_sources(path: &Path) -> impl Iterator<Item = PathBuf> {
    let (parent, name) = fs::split(path);
    let name = name.as_bytes();
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let without = dot.and_then(|dot| name.split_at_checked(dot)).filter(|(_, number)| {
        let digits = number.get(1..).unwrap_or_default();
        digits.first().is_some_and(|first| *first != b'0') && digits.iter().all(u8::is_ascii_digit)
    });
    let without = without.map(|(stem, _)| parent.join(OsStr::from_bytes(stem)));
    std::iter::once(path.to_path_buf()).chain(without)
}

/// Checks whether a file in the archive `archive` is the source of a record. A file with another inode can
/// only be one that was copied there, from another file system.
#[must_use]
pub fn match_archived(
    record: &Record,
    archive: &Path,
    found: &Fingerprint,
    may_renumber: bool,
) -> Match {
    let is_there = matches!(&record.on_success, OnSuccess::Archive(dir) if dir == archive);
    if !is_there || record.state != State::Done {
        return Match::No;
    }
    match_moved(record, found, may_renumber)
}

/// Checks whether a file is the source of a record that was moved, by its identity.
#[must_use]
pub fn match_moved(record: &Record, found: &Fingerprint, may_renumber: bool) -> Match {
    let may_be_copied = may_renumber || record.identity.device != found.device;
    if record.identity.matches_content(found) {
        Match::Yes
    } else if may_be_copied && record.identity.is_copy_of(found) {
        Match::ByContent
    } else {
        Match::No
    }
}

/// What still needs a finished record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A file has the path of its source, and it is the newest record of that path or of that file; or
    /// that cannot be seen.
    pub source: bool,
    /// A file has the name of its output, and no newer record of its source has published under it: without
    /// this record, the output of another source could get that name.
    pub output: bool,
    /// Its file is in the archive, where a retention finds it by this record.
    pub archived: bool,
}

/// Checks whether a record may be removed, except for its age.
#[must_use]
pub fn may_remove(record: &Record, needs: Needs) -> bool {
    let was_moved = record.state == State::Quarantined && record.moved_to.is_some();
    let is_in_quarantine = was_moved && !is_expired(record);
    !record.state.is_unfinished() && !is_in_quarantine && needs == Needs::default()
}

/// Checks whether a record's output was published, at some time.
#[must_use]
pub const fn was_published(record: &Record) -> bool {
    let is_published = matches!(record.state, State::Done | State::Changed | State::Requeued);
    is_published && record.output.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Fingerprint =
        Fingerprint { device: 1, inode: 7, size: 100, mtime_ns: 50, ctime_ns: 60 };

    fn record(state: State) -> Record {
        Record {
            id: 1,
            pipeline: 1,
            source: "a".into(),
            identity: SOURCE,
            output: None,
            on_success: OnSuccess::Archive("/archive".into()),
            state,
            reason: None,
            moved_to: None,
            at_ns: 0,
        }
    }

    #[test]
    fn an_archived_file_matches_by_its_identity_and_a_copy_by_its_content() {
        let matches = |record: &Record, found: Fingerprint| {
            match_archived(record, "/archive".as_ref(), &found, false)
        };
        let done = record(State::Done);
        // A rename moves the change time, a reboot may change the device number.
        assert_eq!(matches(&done, Fingerprint { ctime_ns: 99, device: 2, ..SOURCE }), Match::Yes);
        let copy = Fingerprint { inode: 8, device: 2, ..SOURCE };
        assert_eq!(matches(&done, copy), Match::ByContent);
        assert_eq!(matches(&done, Fingerprint { device: 1, ..copy }), Match::No, "a person's copy");
        for changed in [Fingerprint { size: 101, ..SOURCE }, Fingerprint { mtime_ns: 51, ..copy }] {
            assert_eq!(matches(&done, changed), Match::No);
        }
        for state in State::ALL.iter().filter(|state| **state != State::Done) {
            assert_eq!(matches(&record(*state), SOURCE), Match::No, "{state}");
        }
        assert_eq!(match_archived(&done, "/other".as_ref(), &SOURCE, false), Match::No);
        let kept = Record { on_success: OnSuccess::Keep, ..done };
        assert_eq!(matches(&kept, SOURCE), Match::No);
    }

    #[test]
    fn a_name_in_the_archive_may_have_a_number() {
        let sources = |path: &str| archived_sources(path.as_ref()).collect::<Vec<_>>();
        assert_eq!(sources("d/a.log"), ["d/a.log"].map(PathBuf::from));
        assert_eq!(sources("d/a.log.12"), ["d/a.log.12", "d/a.log"].map(PathBuf::from));
        for other in ["a.0", "a.01", "a.", ".1", "a.1x", "a"] {
            assert_eq!(sources(other), [PathBuf::from(other)], "{other}");
        }
    }

    #[test]
    fn a_record_goes_only_when_nothing_needs_it() {
        let none = Needs::default();
        for state in State::ALL {
            let is_finished = !matches!(state, State::Intent | State::Published);
            assert_eq!(may_remove(&record(*state), none), is_finished, "{state}");
            for needs in [
                Needs { source: true, ..none },
                Needs { output: true, ..none },
                Needs { archived: true, ..none },
            ] {
                assert!(!may_remove(&record(*state), needs), "{state} {needs:?}");
            }
        }
        let kept = Record { moved_to: Some("/q/a".into()), ..record(State::Quarantined) };
        assert!(!may_remove(&kept, none));
        let reason = Some(expired_reason(&kept));
        assert!(may_remove(&Record { reason, ..kept }, none));
    }

    #[test]
    fn the_reason_of_a_quarantined_file_stays_readable() {
        let reason = Some(Reason::new(ReasonCode::Corrupt, "damaged"));
        let quarantined = Record { reason, ..record(State::Quarantined) };
        let expired = expired_reason(&quarantined);
        assert!(expired.text.starts_with("damaged ("), "{expired:?}");
        let expired = Record { reason: Some(expired), ..quarantined };
        assert!(is_expired(&expired) && !expired.is_undisposed());
    }
}
