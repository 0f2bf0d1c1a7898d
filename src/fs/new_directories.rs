//! Creates directories with the permissions of others.

use std::{
    ffi::OsStr,
    io,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{self, Gid, Mode, Uid};

use super::{Dir, FileMetadata, Kind, metadata_of};
use crate::failpoint;

const SET_GROUP: u32 = 0o2000;

impl Dir {
    /// As [`Self::make_beneath`], but a missing directory gets the permissions (less the umask)
    /// and, if the process is root, the owner of the directory that `model` returns for the same path:
    /// what is private there is private here. A default ACL or the set-group bit of a directory decides
    /// instead of the model; `mode` is for directories that the model does not have.
    pub fn make_beneath_like(
        &self,
        relative: &Path,
        model: &dyn Fn(&Path) -> Option<FileMetadata>,
        mode: u32,
    ) -> io::Result<Self> {
        match self.open_beneath(relative) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut dir = self.open_beneath(Path::new(""))?;
        let mut path = PathBuf::new();
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            path.push(name);
            let model = model(&path).filter(|found| found.kind == Kind::Directory);
            dir = dir.make_child(name, model, mode)?;
        }
        Ok(dir)
    }

    fn make_child(&self, name: &OsStr, model: Option<FileMetadata>, mode: u32) -> io::Result<Self> {
        match self.open_beneath(Path::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another thread or process that just made it may not have synced it yet.
            Ok(child) => {
                failpoint::barrier("barrier::new_directory", || self.sync())?;
                return Ok(child);
            }
            result => return result,
        }
        let model = model.filter(|_| !self.has_default_acl());
        // The service itself needs the owner's permissions.
        let mode = model.map_or(mode, |model| model.mode & 0o777 | 0o700);
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                failpoint::barrier("barrier::new_directory", || self.sync())?;
                return self.open_beneath(Path::new(name));
            }
            Err(error) => return Err(error.into()),
        }
        let child = self.open_beneath(Path::new(name))?;
        if let Some(model) = model
            && rustix::process::geteuid().is_root()
        {
            let by_group = metadata_of(&child)?.mode & SET_GROUP != 0;
            let group = (!by_group).then(|| Gid::from_raw(model.group));
            // A file system without owners keeps its own.
            fs::fchown(&child.fd, Some(Uid::from_raw(model.owner)), group).ok();
        }
        failpoint::barrier("barrier::new_directory", || self.sync())?;
        Ok(child)
    }

    /// Checks whether its new files get an ACL from it.
    #[must_use]
    pub fn has_default_acl(&self) -> bool {
        fs::fgetxattr(&self.fd, c"system.posix_acl_default", &mut [0_u8; 0]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_private_input_directory_is_private_in_the_output() {
        let root = tempfile::tempdir().expect("temporary directory");
        for dir in ["in/private/below", "out"] {
            std::fs::create_dir_all(root.path().join(dir)).expect("directories");
        }
        let mode = |path: &str| {
            let found = std::fs::metadata(root.path().join(path)).expect("metadata");
            found.permissions().mode() & 0o777
        };
        let private = Permissions::from_mode(0o750);
        std::fs::set_permissions(root.path().join("in/private"), private).expect("chmod");
        let open = |name: &str| Dir::open(&root.path().join(name)).expect("open");
        let input = open("in");
        let result = open("out").make_beneath_like(
            Path::new("private/below/gone"),
            &|path| input.stat(path).expect("stat"),
            super::super::SHARED_DIR_MODE,
        );
        result.expect("make");
        assert_eq!(mode("out/private"), 0o750);
        assert_eq!(mode("out/private/below"), mode("in/private/below"));
        assert_eq!(mode("out/private/below/gone"), mode("out"), "the umask alone");
    }
}
