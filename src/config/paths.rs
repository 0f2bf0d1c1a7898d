//! Paths of a configuration: absolute, and without symbolic links.

use std::path::{Component, Path, PathBuf};

use crate::patience;

/// Whether the path is the directory or below it.
pub fn is_in(path: &Path, dir: &Path) -> bool {
    !dir.as_os_str().is_empty() && path.starts_with(dir)
}

/// As [`real_path`]; the path as it was written if its file system does not respond.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let path = absolute.clone();
    patience::within(&absolute, move || real_path(&path)).unwrap_or(absolute)
}

/// An absolute path without symbolic links, `.` and `..`, as far as it exists. Blocks while its file
/// system does not respond.
#[must_use]
pub fn real_path(absolute: &Path) -> PathBuf {
    for above in absolute.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let below = absolute.strip_prefix(above).unwrap_or(Path::new(""));
            return below.components().fold(real, |mut path, component| {
                match component {
                    Component::ParentDir => {
                        path.pop();
                    }
                    Component::CurDir => {}
                    other => path.push(other),
                }
                path
            });
        }
    }
    absolute.to_path_buf()
}
