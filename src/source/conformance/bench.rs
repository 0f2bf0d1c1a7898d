//! The implementations that the suite runs on.

use std::{
    any::Any,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::super::{Source, local::Local, memory::Store};
use crate::fs::NodeId;

/// The archive's and the quarantine's roots, next to the input.
pub(super) const ARCHIVE: &str = "/archive";
pub(super) const QUARANTINE: &str = "/quarantine";

/// A source with producers and an operator, who see files by their paths: relative ones of the input,
/// and those of the archive and the quarantine.
pub(super) trait Bench {
    /// Opens it for a ledger's instance.
    fn open_as(&self, instance: &str) -> Box<dyn Source>;
    fn put(&self, path: &str, content: &str);
    fn remove(&self, path: &str);
    /// Opens a file for writing until the returned value is dropped.
    fn write(&self, path: &str) -> Box<dyn Any>;
    /// Returns the real path of a root outside.
    fn outside(&self, root: &str) -> PathBuf;
    fn files(&self) -> BTreeMap<PathBuf, String>;

    fn open(&self) -> Box<dyn Source> {
        self.open_as("0011")
    }
}

impl Bench for Store {
    fn open_as(&self, instance: &str) -> Box<dyn Source> {
        self.make_directory(ARCHIVE.as_ref());
        Box::new(self.open("/in".as_ref(), &NodeId::new(instance)))
    }

    fn put(&self, path: &str, content: &str) {
        self.put(path.as_ref(), content.as_bytes());
    }

    fn remove(&self, path: &str) {
        self.remove(path.as_ref());
    }

    fn write(&self, path: &str) -> Box<dyn Any> {
        Box::new(self.write(path.as_ref()))
    }

    fn outside(&self, root: &str) -> PathBuf {
        root.into()
    }

    fn files(&self) -> BTreeMap<PathBuf, String> {
        let text = |content| String::from_utf8(content).expect("text");
        self.content().into_iter().map(|(path, content)| (path, text(content))).collect()
    }
}

impl Bench for tempfile::TempDir {
    fn open_as(&self, instance: &str) -> Box<dyn Source> {
        for directory in ["in", "archive"] {
            std::fs::create_dir_all(self.path().join(directory)).expect("make");
        }
        let instance = NodeId::new(instance);
        Box::new(Local::open(&self.path().join("in"), &instance, Arc::default()).expect("open"))
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path().join("in").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("make");
        let temp = tempfile::NamedTempFile::new_in(self.path()).expect("create");
        std::fs::write(temp.path(), content).expect("write");
        // Both exist at once, so that they differ in their inodes.
        temp.persist(path).expect("rename");
    }

    fn remove(&self, path: &str) {
        #[expect(clippy::disallowed_methods, reason = "a producer removes its file")]
        std::fs::remove_file(self.path().join("in").join(path)).expect("remove");
    }

    fn write(&self, path: &str) -> Box<dyn Any> {
        let path = self.path().join("in").join(path);
        Box::new(std::fs::OpenOptions::new().append(true).open(path).expect("open"))
    }

    fn outside(&self, root: &str) -> PathBuf {
        self.path().join(root.trim_start_matches('/'))
    }

    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.path().to_path_buf()];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).expect("list") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let below = path.strip_prefix(self.path()).expect("below");
                let name = below.strip_prefix("in").map_or(Path::new("/").join(below), Into::into);
                found.insert(name, std::fs::read_to_string(&path).expect("text"));
            }
        }
        found
    }
}
