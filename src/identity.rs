//! What makes a file the same file.

/// What `fstat` says of a regular file: enough to tell whether it is still the one that was read.
///
/// Sizes are bytes, times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub modified_ns: i64,
    pub changed_ns: i64,
}

/// In the ledger in place of a change time: whatever the file's is, it is the same file.
const ANY_CHANGE: i64 = i64::MAX;

impl Identity {
    /// Of no file.
    pub const NONE: Self =
        Self { device: 0, inode: 0, size: 0, modified_ns: i64::MIN, changed_ns: i64::MIN };

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
    pub fn whatever_its_change_time(self) -> Self {
        Self { changed_ns: ANY_CHANGE, ..self }
    }

    /// As [`Self::matches`], but the change time may differ: a rename, `chmod` or `chown` moves it.
    #[must_use]
    pub fn matches_content(&self, other: &Self) -> bool {
        self.inode == other.inode
            && self.size == other.size
            && self.modified_ns == other.modified_ns
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

    const READ: Identity =
        Identity { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

    #[test]
    fn a_new_device_number_is_the_same_file() {
        assert!(Identity { device: 2, ..READ }.matches(&READ));
    }

    #[test]
    fn a_rename_keeps_the_content_and_not_the_change_time() {
        let renamed = Identity { changed_ns: 70, ..READ };
        assert!(!renamed.matches(&READ));
        assert!(renamed.matches_content(&READ));
    }

    #[test]
    fn a_file_that_is_about_to_be_renamed_is_known_again() {
        let renamed = Identity { changed_ns: 70, ..READ };
        assert!(renamed.matches(&READ.whatever_its_change_time()));
        let written_since = Identity { modified_ns: 70, changed_ns: 70, ..READ };
        assert!(!written_since.matches(&READ.whatever_its_change_time()));
    }

    #[test]
    fn a_source_emptied_by_a_power_loss_is_an_earlier_state() {
        assert!(Identity { size: 0, ..READ }.is_earlier_state_of(&READ));
        let written_since = Identity { size: 0, modified_ns: 80, changed_ns: 80, ..READ };
        assert!(!written_since.is_earlier_state_of(&READ));
        assert!(!written_since.is_earlier_content_of(&READ));
        let renamed_since = Identity { size: 0, changed_ns: 80, ..READ };
        assert!(!renamed_since.is_earlier_state_of(&READ));
        assert!(renamed_since.is_earlier_content_of(&READ));
        let other_file = Identity { inode: 8, ..READ };
        assert!(!other_file.is_earlier_state_of(&READ));
    }
}
