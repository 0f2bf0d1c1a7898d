//! Extended attributes and POSIX ACLs of a file.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr},
    io::Errno,
};

/// The space for the names of a file's attributes that is tried first.
const NAMES_BYTES: usize = 1024;
/// The largest list of names and the largest value that the kernel returns (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const KERNEL_BYTES_MAX: usize = 65_536;
/// The attribute that holds the ACL.
const ACL: &[u8] = b"system.posix_acl_access";

/// The extended attributes of a source that its output gets: those of the users (`user.*`), and the
/// ACL. Most files have none, which takes no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedAttributes(Vec<(Vec<u8>, Vec<u8>)>);

impl ExtendedAttributes {
    /// Reads the attributes of an open file: one call for a file without any. A file system without
    /// extended attributes has none; one that cannot be read is left out.
    pub fn read(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        let mut names = [0; NAMES_BYTES];
        let names = match flistxattr(file, &mut names[..]) {
            Ok(0) => return Ok(Self::default()),
            Ok(length) => names.get(..length).unwrap_or_default().to_vec(),
            Err(Errno::RANGE) => {
                let mut names = vec![0; KERNEL_BYTES_MAX];
                let length = flistxattr(file, &mut names[..])?;
                names.truncate(length);
                names
            }
            Err(error) if is_left_out(error) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let mut attributes = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
            let mut value = vec![0; KERNEL_BYTES_MAX];
            match fgetxattr(file, name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    value.shrink_to_fit();
                    attributes.push((name.to_vec(), value));
                }
                Err(error) if is_left_out(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(attributes))
    }

    /// Sets the attributes on an open file, and returns the first error of those that its file system
    /// cannot hold or that this process may not set. Others of the file stay.
    pub fn write(&self, file: impl AsFd) -> io::Result<Option<io::Error>> {
        let mut refused = None;
        for (name, value) in &self.0 {
            match fsetxattr(file.as_fd(), name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(error) if is_left_out(error) => refused = refused.or(Some(error.into())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(refused)
    }

    #[must_use]
    pub fn has_acl(&self) -> bool {
        self.0.iter().any(|(name, _)| name == ACL)
    }

    /// Checks whether these include all attributes of `other`, with the same values.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        other.0.iter().all(|attribute| self.0.contains(attribute))
    }
}

/// Removes the ACL of an open file.
pub fn remove_acl(file: impl AsFd) -> io::Result<()> {
    match fremovexattr(file, ACL) {
        Err(error) if !is_left_out(error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACL
}

/// Checks for an error of one attribute, or of a file system or process that may not have any, which
/// stops no file.
fn is_left_out(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NODATA
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::TOOBIG
            | Errno::RANGE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_and_set_and_those_of_the_system_are_not() {
        let [from, to] = [(); 2].map(|()| tempfile::tempfile().expect("file"));
        assert_eq!(ExtendedAttributes::read(&from).expect("read").0, []);
        let large = vec![7; 2000];
        for number in 0..3 {
            let name = format!("user.{}{number}", "n".repeat(200));
            match fsetxattr(&from, &*name, b"value", XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => return,
                result => result.expect("set"),
            }
        }
        fsetxattr(&from, "user.empty", b"", XattrFlags::empty()).expect("set");
        fsetxattr(&from, "user.large", &large, XattrFlags::empty()).expect("set");
        // Only root may.
        fsetxattr(&from, "trusted.own", b"1", XattrFlags::empty()).ok();
        fsetxattr(&to, "user.other", b"stays", XattrFlags::empty()).expect("set");
        let read = ExtendedAttributes::read(&from).expect("read");
        assert_eq!(read.0.len(), 5);
        assert!(read.write(&to).expect("write").is_none());
        let written = ExtendedAttributes::read(&to).expect("read");
        assert!(written.include(&read) && !read.include(&written));
        assert_eq!(written.0.len(), 6);
    }
}
