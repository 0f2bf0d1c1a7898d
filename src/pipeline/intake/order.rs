//! The ready files of a pipeline with an `order`: the first ones of all that were found, up to a bound.
//! A file without room is dropped, and another scan finds it when the files before it are sent.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    fingerprint::Fingerprint,
    pipeline::job::{DiscoveredBy, SettledFile},
    policy::Order,
};

/// The position of a file: by its key, and by its path where the keys are equal.
type Position<'a> = (i64, &'a [u8]);

fn position_of<'a>(order: Order, path: &'a Path, identity: &Fingerprint) -> Position<'a> {
    let size = i64::try_from(identity.size).unwrap_or(i64::MAX);
    let key = match order {
        Order::None | Order::Name => 0,
        Order::Oldest => identity.mtime_ns,
        Order::Newest => identity.mtime_ns.saturating_neg(),
        Order::Smallest => size,
        Order::Largest => -size,
    };
    (key, path.as_os_str().as_bytes())
}

/// A ready file, compared by its position.
#[derive(Debug)]
struct RankedFile {
    key: i64,
    file: SettledFile,
}

impl RankedFile {
    fn position(&self) -> Position<'_> {
        (self.key, self.file.path.as_os_str().as_bytes())
    }
}

impl Ord for RankedFile {
    fn cmp(&self, other: &Self) -> Ordering {
        self.position().cmp(&other.position())
    }
}

impl PartialOrd for RankedFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RankedFile {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RankedFile {}

/// The position of a file that is not held.
#[derive(Debug)]
struct Bound {
    key: i64,
    path: PathBuf,
}

impl Bound {
    fn of((key, _): Position<'_>, path: &Path) -> Self {
        Self { key, path: path.to_path_buf() }
    }

    fn position(&self) -> Position<'_> {
        (self.key, self.path.as_os_str().as_bytes())
    }
}

/// The first ready files of all that were found, at most `limit`.
#[derive(Debug)]
pub(super) struct OrderedFiles {
    order: Order,
    limit: usize,
    files: BTreeSet<RankedFile>,
    /// The first of the files that were dropped for want of room. Files after it have none either, so that
    /// the next scan finds all of them in order.
    rest: Option<Bound>,
    /// The running scan skips the files before this one: they were held, and are sent.
    floor: Option<Bound>,
}

impl OrderedFiles {
    pub fn new(order: Order, limit: usize) -> Self {
        Self { order, limit, files: BTreeSet::new(), rest: None, floor: None }
    }

    /// Adds a file; returns the one without room, if there is one: this, or the last of the others.
    pub fn push(&mut self, file: SettledFile) -> Option<SettledFile> {
        let position = position_of(self.order, &file.path, &file.metadata.identity);
        if self.rest.as_ref().is_some_and(|rest| position >= rest.position()) {
            return Some(file);
        }
        let (key, _) = position;
        self.files.insert(RankedFile { key, file });
        if self.files.len() <= self.limit {
            return None;
        }
        let last = self.files.pop_last()?;
        self.rest = Some(Bound::of(last.position(), &last.file.path));
        Some(last.file)
    }

    /// Notes that a full scan begins: one for the rest, or one that finds all files again.
    pub fn on_scan_start(&mut self, origin: DiscoveredBy) {
        let rest = self.rest.take();
        self.floor = if origin == DiscoveredBy::Rest { rest } else { None };
    }

    /// Checks whether a scan passes over this file, which was sent before the rest. Without its identity,
    /// only the name decides.
    pub fn passes(
        &self,
        origin: DiscoveredBy,
        path: &Path,
        identity: Option<&Fingerprint>,
    ) -> bool {
        let Some(floor) = self.floor.as_ref().filter(|_| origin == DiscoveredBy::Rest) else {
            return false;
        };
        match identity {
            Some(identity) => position_of(self.order, path, identity) < floor.position(),
            None => self.order == Order::Name && path.as_os_str().as_bytes() < floor.position().1,
        }
    }

    /// Checks whether there are files that only another scan finds.
    pub const fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn first(&self) -> Option<&SettledFile> {
        self.files.first().map(|first| &first.file)
    }

    pub fn take(&mut self) -> Option<SettledFile> {
        self.files.pop_first().map(|first| first.file)
    }

    pub fn iter(&self) -> impl Iterator<Item = &SettledFile> {
        self.files.iter().map(|ranked| &ranked.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::intake::ready::tests::settled_at;

    fn file(name: &str, mtime_ns: i64, size: u64) -> SettledFile {
        settled_at(name, size, mtime_ns)
    }

    fn names(mut files: OrderedFiles) -> Vec<String> {
        std::iter::from_fn(|| files.take()).map(|file| file.path.display().to_string()).collect()
    }

    #[test]
    fn each_order_has_its_first_file_and_equal_ones_go_by_name() {
        let orders = [
            (Order::Name, "a a/b b c"),
            (Order::Oldest, "c a/b b a"),
            (Order::Newest, "a a/b b c"),
            (Order::Smallest, "b a c a/b"),
            (Order::Largest, "a/b c a b"),
        ];
        for (order, expected) in orders {
            let mut ordered = OrderedFiles::new(order, 10);
            for (name, mtime_ns, size) in
                [("c", i64::MIN, 7), ("a", 9, 5), ("b", 3, 0), ("a/b", 3, u64::MAX)]
            {
                assert!(ordered.push(file(name, mtime_ns, size)).is_none());
            }
            assert_eq!(names(ordered).join(" "), expected, "{order}");
        }
    }

    #[test]
    fn scans_for_the_rest_find_every_file_in_order_and_each_once() {
        let found: Vec<String> =
            (0..1000).map(|number| format!("{:04}", number * 7 % 1000)).collect();
        let mut ordered = OrderedFiles::new(Order::Name, 64);
        let (mut sent, mut scans) = (Vec::new(), 0);
        let mut origin = DiscoveredBy::Scan;
        loop {
            ordered.on_scan_start(origin);
            for name in &found {
                let path = Path::new(name);
                // What was sent may stay in the input.
                if !ordered.passes(origin, path, None) {
                    ordered.push(file(name, 0, 0));
                }
            }
            sent.extend(std::iter::from_fn(|| ordered.take()).map(|file| file.path));
            (origin, scans) = (DiscoveredBy::Rest, scans + 1);
            if !ordered.has_rest() {
                break;
            }
        }
        assert_eq!(scans, 1000_usize.div_ceil(64));
        assert_eq!(sent.len(), 1000);
        assert!(sent.is_sorted_by(|earlier, later| earlier < later), "{sent:?}");
    }

    #[test]
    fn a_file_after_the_rest_waits_for_it_and_one_before_it_does_not() {
        let mut ordered = OrderedFiles::new(Order::Name, 2);
        for name in ["b", "d", "f"] {
            ordered.push(file(name, 0, 0));
        }
        assert!(ordered.has_rest());
        ordered.take();
        assert_eq!(ordered.push(file("g", 0, 0)).expect("no room").path, Path::new("g"));
        assert!(ordered.push(file("e", 0, 0)).is_none());
        assert_eq!(names(ordered), ["d", "e"]);
    }

    #[test]
    fn a_full_scan_finds_all_files_again() {
        let mut ordered = OrderedFiles::new(Order::Smallest, 1);
        ordered.push(file("small", 0, 1));
        ordered.push(file("large", 0, 2));
        ordered.on_scan_start(DiscoveredBy::Rest);
        let small = Fingerprint { size: 1, ..Fingerprint::NONE };
        assert!(ordered.passes(DiscoveredBy::Rest, Path::new("small"), Some(&small)));
        assert!(!ordered.passes(DiscoveredBy::Event, Path::new("small"), Some(&small)));
        assert!(!ordered.passes(DiscoveredBy::Rest, Path::new("small"), None), "the name decides");
        ordered.on_scan_start(DiscoveredBy::Rescan);
        assert!(!ordered.passes(DiscoveredBy::Rest, Path::new("small"), Some(&small)));
        assert!(!ordered.has_rest());
    }
}
