//! The identity of a file.

/// Metadata from `fstat` that identifies a version of a regular file.
///
/// Sizes are bytes, times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Fingerprint {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

/// Identifies a file or directory while the machine runs and the file system stays mounted: equal for
/// all paths that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// The coarsest resolution of times in use: FAT's modification times have two seconds.
const COARSEST_NS: i64 = 2_000_000_000;
/// The resolutions to which a copy may reduce a time, in nanoseconds: of SMB, of servers with microseconds,
/// of exFAT, of old NFS servers and of FAT.
const COPY_RESOLUTIONS_NS: [i64; 5] = [100, 1_000, 10_000_000, 1_000_000_000, COARSEST_NS];
/// The longest time from the begin of a source's reading to its record, except for large sources.
const READ_NS: i64 = 60_000_000_000;

/// The longest time for which file systems keep written content in memory only: the kernel writes it
/// after 30 seconds (`dirty_expire_centisecs`), a journal is committed up to 5 seconds later, and both
/// take their time.
const UNWRITTEN_NS: i64 = 120_000_000_000;

/// A change time in the ledger that matches every change time of the file.
const ANY_CHANGE: i64 = i64::MAX;

impl Fingerprint {
    /// The fingerprint of no file.
    pub const NONE: Self =
        Self { device: 0, inode: 0, size: 0, mtime_ns: i64::MIN, ctime_ns: i64::MIN };

    /// Checks whether this may be the file of another look, changed or not. Some file systems (FAT, SSHFS)
    /// give a file another inode number at each look-up: there its size and both times must do.
    #[must_use]
    pub fn may_be_same_file(&self, other: &Self) -> bool {
        self.has_equal_times(other) || self.file_id() == other.file_id()
    }

    /// Checks whether the size and both times are equal, whatever the inode number.
    #[must_use]
    pub fn has_equal_times(&self, other: &Self) -> bool {
        self.is_copy_of(other) && self.ctime_ns == other.ctime_ns
    }

    /// Returns the file's ID.
    #[must_use]
    pub const fn file_id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }

    /// Checks whether this is the same file with the same content, by its metadata.
    ///
    /// The device number is not compared: it may differ after a reboot or a new mount.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.matches_content(other)
            && (self.ctime_ns == other.ctime_ns || other.ctime_ns == ANY_CHANGE)
    }

    /// Returns a fingerprint that matches every change time, for the record of a file that is about to
    /// be renamed: a rename moves the change time.
    #[must_use]
    pub fn ignoring_ctime(self) -> Self {
        Self { ctime_ns: ANY_CHANGE, ..self }
    }

    /// Returns a fingerprint that matches no change time, for the record of a file whose content must be
    /// compared.
    #[must_use]
    pub fn without_ctime(self) -> Self {
        Self { ctime_ns: i64::MIN, ..self }
    }

    /// Compares like [`Self::matches`], but without the change time: a rename, `chmod` or `chown` moves
    /// it.
    #[must_use]
    pub fn matches_content(&self, other: &Self) -> bool {
        self.inode == other.inode && self.size == other.size && self.mtime_ns == other.mtime_ns
    }

    /// Checks whether a file that was read and then recorded at this time (nanoseconds since the epoch)
    /// may have other content under the same identity: its times are in whole seconds, and it was read
    /// before the second of its latest change had ended. Git calls such an entry racy
    /// (`Documentation/technical/racy-git.txt`). Times far in the future are ignored.
    #[must_use]
    pub fn may_hide_a_change(&self, recorded_ns: i64) -> bool {
        let is_whole = |time: i64| time.rem_euclid(1_000_000_000) == 0;
        let changed = if self.ctime_ns == ANY_CHANGE { self.mtime_ns } else { self.ctime_ns };
        let age = recorded_ns.saturating_sub(self.mtime_ns.max(changed));
        is_whole(self.mtime_ns)
            && is_whole(changed)
            && (-READ_NS..READ_NS + COARSEST_NS).contains(&age)
    }

    /// Checks whether it can be a copy that kept its time, or the same file after its inode number
    /// changed. Only a comparison of the content can decide.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.size == other.size && self.mtime_ns == other.mtime_ns
    }

    /// Checks like [`Self::is_copy_of`], also for a copy on a file system with coarser times, which truncates
    /// them or, on FAT, rounds them up.
    #[must_use]
    pub fn may_be_copy_of(&self, other: &Self) -> bool {
        let is_reduced = |resolution: &i64| {
            let lost = self.mtime_ns.saturating_sub(other.mtime_ns);
            let rounds_up = *resolution == COARSEST_NS;
            self.mtime_ns.rem_euclid(*resolution) == 0
                && (-resolution < lost && (lost <= 0 || rounds_up && lost < *resolution))
        };
        self.is_copy_of(other)
            || self.size == other.size && COPY_RESOLUTIONS_NS.iter().any(is_reduced)
    }

    /// Checks whether `self` is an earlier state of the file that was recorded as `other`.
    ///
    /// After a power loss a source that its producer never made durable is shorter and has earlier
    /// times: the same inode, and an earlier change time, which nobody can set. A file that was written to
    /// since has a later one, and so has a new file that got the inode. The time of modification decides
    /// only between equal change times: it may have been set back before the file was recorded.
    #[must_use]
    pub fn is_earlier_state_of(&self, other: &Self) -> bool {
        let is_older = self.ctime_ns < other.ctime_ns && other.ctime_ns != ANY_CHANGE;
        let is_no_newer = self.ctime_ns <= other.ctime_ns && self.mtime_ns <= other.mtime_ns;
        self.inode == other.inode && (is_older || is_no_newer)
    }

    /// Checks like [`Self::is_earlier_state_of`], for a file that only this service has renamed since:
    /// the rename moved its change time.
    #[must_use]
    pub fn is_earlier_content_of(&self, other: &Self) -> bool {
        self.inode == other.inode && self.mtime_ns <= other.mtime_ns
    }

    /// Checks like [`Self::is_earlier_content_of`], after a power loss, for a file that was recorded at
    /// this time (nanoseconds since the epoch): its producer may have set the time of modification back,
    /// and the power loss may have undone that, or only the content.
    #[must_use]
    pub fn may_be_earlier_content_of(&self, other: &Self, recorded_ns: i64) -> bool {
        self.inode == other.inode
            && self.size <= other.size
            && self.mtime_ns <= other.mtime_ns.max(recorded_ns)
    }

    /// Checks whether a power loss may have taken content from the file that was recorded as `other` at
    /// this time (nanoseconds since the epoch), although its change time is later: its producer changed
    /// its mode or its times after that, and the file system had those in its journal and not yet the
    /// content on the disk.
    #[must_use]
    pub fn may_have_lost_content_of(&self, other: &Self, recorded_ns: i64) -> bool {
        self.may_be_earlier_content_of(other, recorded_ns)
            && self.size < other.size
            && self.ctime_ns <= recorded_ns.saturating_add(UNWRITTEN_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Fingerprint =
        Fingerprint { device: 1, inode: 7, size: 100, mtime_ns: 50, ctime_ns: 60 };

    #[test]
    fn a_file_with_a_new_device_number_is_the_same_file() {
        assert!(Fingerprint { device: 2, ..READ }.matches(&READ));
    }

    #[test]
    fn a_rename_keeps_the_content_and_not_the_change_time() {
        let renamed = Fingerprint { ctime_ns: 70, ..READ };
        assert!(!renamed.matches(&READ));
        assert!(renamed.matches_content(&READ));
    }

    #[test]
    fn a_file_is_recognized_after_its_rename() {
        let renamed = Fingerprint { ctime_ns: 70, ..READ };
        assert!(renamed.matches(&READ.ignoring_ctime()));
        let written_since = Fingerprint { mtime_ns: 70, ctime_ns: 70, ..READ };
        assert!(!written_since.matches(&READ.ignoring_ctime()));
    }

    #[test]
    fn only_coarse_times_of_a_recently_written_file_may_hide_a_change() {
        const SECOND: i64 = 1_000_000_000;
        let coarse = Fingerprint { mtime_ns: 1000 * SECOND, ctime_ns: 1000 * SECOND, ..READ };
        assert!(coarse.may_hide_a_change(1001 * SECOND));
        assert!(coarse.ignoring_ctime().may_hide_a_change(1001 * SECOND));
        assert!(!coarse.may_hide_a_change(1063 * SECOND));
        assert!(!coarse.may_hide_a_change(900 * SECOND), "times far in the future");
        let fine = Fingerprint { ctime_ns: 1000 * SECOND + 1, ..coarse };
        assert!(!fine.may_hide_a_change(1001 * SECOND));
    }

    #[test]
    fn a_copy_may_have_coarser_times() {
        let written = Fingerprint { mtime_ns: 1_700_000_001_234_567_891, ..READ };
        let copied = |mtime_ns| {
            Fingerprint { inode: 8, mtime_ns, ctime_ns: 9, ..READ }.may_be_copy_of(&written)
        };
        for kept in [
            1_700_000_001_234_567_891,
            1_700_000_001_234_567_800,
            1_700_000_001_234_567_000,
            1_700_000_001_230_000_000,
            1_700_000_001_000_000_000,
            1_700_000_000_000_000_000,
            1_700_000_002_000_000_000,
        ] {
            assert!(copied(kept), "{kept}");
        }
        for other in [
            1_700_000_001_234_567_890,
            1_700_000_001_234_567_900,
            1_700_000_003_000_000_000,
            1_700_000_004_000_000_000,
            1_699_999_998_000_000_000,
        ] {
            assert!(!copied(other), "{other}");
        }
        let longer = Fingerprint { size: 101, ..written };
        assert!(!longer.may_be_copy_of(&written));
    }

    #[test]
    fn a_source_emptied_by_a_power_loss_is_an_earlier_state() {
        assert!(Fingerprint { size: 0, ..READ }.is_earlier_state_of(&READ));
        let written_since = Fingerprint { size: 0, mtime_ns: 80, ctime_ns: 80, ..READ };
        assert!(!written_since.is_earlier_state_of(&READ));
        let set_back = Fingerprint { mtime_ns: 10, ctime_ns: 70, ..READ };
        assert!(Fingerprint { size: 0, ..READ }.is_earlier_state_of(&set_back));
        assert!(!written_since.is_earlier_content_of(&READ));
        let renamed_since = Fingerprint { size: 0, ctime_ns: 80, ..READ };
        assert!(!renamed_since.is_earlier_state_of(&READ));
        assert!(renamed_since.is_earlier_content_of(&READ));
        let other_file = Fingerprint { inode: 8, ..READ };
        assert!(!other_file.is_earlier_state_of(&READ));
    }

    #[test]
    fn a_time_that_was_set_back_does_not_hide_an_earlier_content() {
        let set_back = Fingerprint { mtime_ns: 10, ..READ };
        let emptied = Fingerprint { size: 0, ctime_ns: 80, ..READ };
        assert!(!emptied.is_earlier_content_of(&set_back));
        assert!(emptied.may_be_earlier_content_of(&set_back, 65));
        assert!(!emptied.may_be_earlier_content_of(&set_back, 45), "written after its record");
        let grown = Fingerprint { size: 101, ..emptied };
        assert!(!grown.may_be_earlier_content_of(&set_back, 65));
        let other_file = Fingerprint { inode: 8, ..emptied };
        assert!(!other_file.may_be_earlier_content_of(&set_back, 65));
    }

    #[test]
    fn content_is_lost_although_the_change_time_is_later() {
        let touched = Fingerprint { size: 0, mtime_ns: 10, ctime_ns: 80, ..READ };
        assert!(!touched.is_earlier_state_of(&READ));
        assert!(touched.may_have_lost_content_of(&READ, 65));
        assert!(!Fingerprint { size: 100, ..touched }.may_have_lost_content_of(&READ, 65));
        let much_later = Fingerprint { ctime_ns: 66 + UNWRITTEN_NS, ..touched };
        assert!(!much_later.may_have_lost_content_of(&READ, 65), "it was on the disk by then");
    }
}
