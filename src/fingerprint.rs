//! What makes a file the same file.

/// What `fstat` says of a regular file: enough to tell whether it is still the one that was read.
///
/// Sizes are bytes, times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Fingerprint {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub modified_ns: i64,
    pub changed_ns: i64,
}

/// What two paths have in common that lead to one file or directory of a running machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}
/// The coarsest times of a file system in use: FAT's modification times are of two seconds.
const COARSEST_NS: i64 = 2_000_000_000;
/// A source is recorded this long after its reading began, or later only where it is large.
const READ_NS: i64 = 60_000_000_000;

/// In the ledger in place of a change time: whatever the file's is, it is the same file.
const ANY_CHANGE: i64 = i64::MAX;

impl Fingerprint {
    /// Of no file.
    pub const NONE: Self =
        Self { device: 0, inode: 0, size: 0, modified_ns: i64::MIN, changed_ns: i64::MIN };

    /// Which file it is, while the machine runs and its file system stays mounted.
    #[must_use]
    pub const fn file_id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }

    /// The same file with the same content, as far as a file system can tell.
    ///
    /// The device number is left out: it may differ after a reboot or a new mount.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.matches_content(other)
            && (self.changed_ns == other.changed_ns || other.changed_ns == ANY_CHANGE)
    }

    /// For a record of a file that is about to be renamed, which moves its change time.
    #[must_use]
    pub fn ignoring_ctime(self) -> Self {
        Self { changed_ns: ANY_CHANGE, ..self }
    }

    /// As [`Self::matches`], but the change time may differ: a rename, `chmod` or `chown` moves it.
    #[must_use]
    pub fn matches_content(&self, other: &Self) -> bool {
        self.inode == other.inode
            && self.size == other.size
            && self.modified_ns == other.modified_ns
    }

    /// Whether a file that was read and then recorded at this time (nanoseconds since the epoch) may
    /// have other content under the very same identity: its times are of whole seconds, and when it
    /// was read the tick of the last change had not ended. Git calls such an entry racy
    /// (`Documentation/technical/racy-git.txt`). Times far in the future say nothing.
    #[must_use]
    pub fn may_hide_a_change(&self, recorded_ns: i64) -> bool {
        let is_whole = |time: i64| time.rem_euclid(1_000_000_000) == 0;
        let changed =
            if self.changed_ns == ANY_CHANGE { self.modified_ns } else { self.changed_ns };
        let age = recorded_ns.saturating_sub(self.modified_ns.max(changed));
        is_whole(self.modified_ns)
            && is_whole(changed)
            && (-READ_NS..READ_NS + COARSEST_NS).contains(&age)
    }

    /// Whether it can be a copy that kept its time, or the same file after its inode number changed.
    /// Only the content can tell.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.size == other.size && self.modified_ns == other.modified_ns
    }

    /// Whether `self` is an earlier state of the file that was recorded as `other`.
    ///
    /// After a power loss a source that its producer never made durable comes back shorter, with
    /// the times it had: the same inode, no newer than what was read. A file that was written to
    /// since has a later change time, and a new file that got the inode has one too.
    #[must_use]
    pub fn is_earlier_state_of(&self, other: &Self) -> bool {
        self.inode == other.inode
            && self.changed_ns <= other.changed_ns
            && self.modified_ns <= other.modified_ns
    }

    /// As [`Self::is_earlier_state_of`], of a file that only this service has renamed since: its
    /// change time is the rename's.
    #[must_use]
    pub fn is_earlier_content_of(&self, other: &Self) -> bool {
        self.inode == other.inode && self.modified_ns <= other.modified_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Fingerprint =
        Fingerprint { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

    #[test]
    fn a_new_device_number_is_the_same_file() {
        assert!(Fingerprint { device: 2, ..READ }.matches(&READ));
    }

    #[test]
    fn a_rename_keeps_the_content_and_not_the_change_time() {
        let renamed = Fingerprint { changed_ns: 70, ..READ };
        assert!(!renamed.matches(&READ));
        assert!(renamed.matches_content(&READ));
    }

    #[test]
    fn a_file_that_is_about_to_be_renamed_is_known_again() {
        let renamed = Fingerprint { changed_ns: 70, ..READ };
        assert!(renamed.matches(&READ.ignoring_ctime()));
        let written_since = Fingerprint { modified_ns: 70, changed_ns: 70, ..READ };
        assert!(!written_since.matches(&READ.ignoring_ctime()));
    }

    #[test]
    fn only_coarse_times_of_a_file_that_was_just_written_may_hide_a_change() {
        const SECOND: i64 = 1_000_000_000;
        let coarse = Fingerprint { modified_ns: 1000 * SECOND, changed_ns: 1000 * SECOND, ..READ };
        assert!(coarse.may_hide_a_change(1001 * SECOND));
        assert!(coarse.ignoring_ctime().may_hide_a_change(1001 * SECOND));
        assert!(!coarse.may_hide_a_change(1063 * SECOND));
        assert!(!coarse.may_hide_a_change(900 * SECOND), "a clock that is far ahead");
        let fine = Fingerprint { changed_ns: 1000 * SECOND + 1, ..coarse };
        assert!(!fine.may_hide_a_change(1001 * SECOND));
    }

    #[test]
    fn a_source_emptied_by_a_power_loss_is_an_earlier_state() {
        assert!(Fingerprint { size: 0, ..READ }.is_earlier_state_of(&READ));
        let written_since = Fingerprint { size: 0, modified_ns: 80, changed_ns: 80, ..READ };
        assert!(!written_since.is_earlier_state_of(&READ));
        assert!(!written_since.is_earlier_content_of(&READ));
        let renamed_since = Fingerprint { size: 0, changed_ns: 80, ..READ };
        assert!(!renamed_since.is_earlier_state_of(&READ));
        assert!(renamed_since.is_earlier_content_of(&READ));
        let other_file = Fingerprint { inode: 8, ..READ };
        assert!(!other_file.is_earlier_state_of(&READ));
    }
}
