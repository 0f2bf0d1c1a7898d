//! The final name of a temporary file.

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::Arc,
};

use super::{
    Dir, Temp,
    rename::{Overwrite, Renamed},
};

/// The old name of a file that got its new one by a link. Dropping it leaves the name.
#[derive(Debug)]
#[must_use = "the file keeps two names until `remove`"]
pub struct SecondName {
    dir: Arc<Dir>,
    name: OsString,
}

impl SecondName {
    /// Removes the old name. The new one must be durable before: otherwise a power loss may take
    /// both.
    pub fn remove(&self) -> io::Result<()> {
        let is_stale = |error: &io::Error| error.kind() == io::ErrorKind::StaleNetworkFileHandle;
        let removed = self.dir.unlink_own(&self.name);
        // The error may pass.
        let removed = removed.or_else(|error| {
            if is_stale(&error) { self.dir.unlink_own(&self.name) } else { Err(error) }
        });
        match removed {
            // The directory was removed, and the name with it.
            Err(error) if is_stale(&error) => Ok(()),
            removed => removed,
        }
    }
}

impl Temp {
    /// Gives it its final name. Durable after the directory's sync; a second name that it keeps
    /// until then is returned, and the caller removes it after that. A failure returns the temp.
    pub fn publish(
        self,
        name: &OsStr,
        overwrite: Overwrite,
    ) -> Result<Option<SecondName>, (Self, io::Error)> {
        let dir = self.dir();
        let renamed = match overwrite {
            Overwrite::Allow => {
                dir.rename(self.name(), dir, name, overwrite).map(|()| Renamed::AtOnce)
            }
            Overwrite::Never => dir.rename_or_link(self.name(), dir, name),
        };
        let renamed = match renamed {
            Ok(renamed) => renamed,
            Err(error) if self.was_renamed_to(name, &error) => Renamed::AtOnce,
            Err(error) => return Err((self, error)),
        };
        let dir = Arc::clone(self.dir());
        let name = self.close();
        Ok((renamed != Renamed::AtOnce).then_some(SecondName { dir, name }))
    }

    /// Checks whether it got this name by a call whose reply was lost: the repeated call finds no
    /// temp.
    fn was_renamed_to(&self, name: &OsStr, error: &io::Error) -> bool {
        if error.kind() != io::ErrorKind::NotFound {
            return false;
        }
        let found = self.dir().stat_fresh(name).ok().flatten();
        let own = self.identity().ok();
        found.zip(own).is_some_and(|(found, own)| found.identity.inode == own.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::NodeId;

    #[test]
    fn a_taken_name_returns_the_temp() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        std::fs::write(root.path().join("taken"), "theirs").expect("write");
        let temp = Temp::create(&dir, &NodeId::new("0")).expect("create");
        let (temp, error) = temp.publish("taken".as_ref(), Overwrite::Never).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        drop(temp);
        assert_eq!(std::fs::read_dir(root.path()).expect("list").count(), 1);
    }
}
