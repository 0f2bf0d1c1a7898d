//! What a transform may know of the file.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    sync::Arc,
};

use super::Spec;

/// The file that a transform is started for.
#[derive(Clone, Copy, Debug)]
pub struct FileInfo<'a> {
    /// Its path below the input.
    pub source: &'a Path,
    /// The transforms before this one.
    pub(super) before: &'a [Arc<dyn Spec>],
}

impl FileInfo<'_> {
    /// Returns the name that the transforms before this one give to the file.
    #[must_use]
    pub fn name(&self) -> OsString {
        name_after(self.source.file_name().unwrap_or_default(), self.before)
    }
}

/// Returns a name after these transforms.
pub(super) fn name_after(name: &OsStr, transforms: &[Arc<dyn Spec>]) -> OsString {
    let name = name.as_bytes().to_vec();
    OsString::from_vec(transforms.iter().fold(name, |name, spec| spec.output_name(name)))
}
