//! Which files below an input a pipeline processes.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::{
    declare::{self, Entry, Located, Location},
    load::Resolver,
};

/// Globs for paths below the input: any of `include` (everything if it is empty), none of
/// `exclude`, and nothing below a directory that `exclude` matches.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// A directory that matches is skipped with everything below it.
    exclude_directories: GlobSet,
    written: Globs,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// The globs as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globs {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub ignore_case: bool,
}

impl Filter {
    /// A glob without a `/` matches the name in any directory; one with a `/` matches the entire path, where
    /// `*` stays within one directory and `**` does not. A `/` at the begin is the input itself. In
    /// `exclude`, a `/` at the end limits it to directories.
    pub fn new(
        include: &[String],
        exclude: &[String],
        ignore_case: bool,
    ) -> Result<Self, globset::Error> {
        let glob = |written: &str| glob(written, ignore_case);
        let glob_of_path = |path: &str| glob_of_path(path, ignore_case);
        let of_files = exclude.iter().filter(|written| !written.ends_with('/'));
        let names = |written: &String| written.strip_suffix('/').unwrap_or(written).to_owned();
        let content = |written: &String| written.strip_suffix("/**").map(str::to_owned);
        let of_directories = exclude.iter().flat_map(|written| {
            // `cache/**` is anchored as it was written, though `cache` alone would not be.
            let whole = content(written).map(|dir| glob_of_path(&dir));
            [Some(glob(&names(written))), whole].into_iter().flatten()
        });
        Ok(Self {
            include: if include.is_empty() {
                None
            } else {
                Some(set(include.iter().map(|one| glob(one)))?)
            },
            exclude: set(of_files.map(|one| glob(one)))?,
            exclude_directories: set(of_directories)?,
            written: Globs { include: include.to_vec(), exclude: exclude.to_vec(), ignore_case },
        })
    }

    /// The globs it was made from.
    #[must_use]
    pub const fn written(&self) -> &Globs {
        &self.written
    }

    /// A filter that allows everything.
    #[must_use]
    pub fn all() -> Self {
        let (exclude, exclude_directories) = (GlobSet::empty(), GlobSet::empty());
        Self { include: None, exclude, exclude_directories, written: Globs::default() }
    }

    /// Whether to process the file at this path below the input.
    #[must_use]
    pub fn allows(&self, relative: &Path) -> bool {
        let included = self.include.as_ref().is_none_or(|set| set.is_match(relative));
        let excluded = || self.exclude.is_match(relative);
        included && !excluded() && relative.parent().is_none_or(|parent| self.enters(parent))
    }

    /// Whether any file below this directory may be processed.
    #[must_use]
    pub fn enters(&self, directory: &Path) -> bool {
        let is_root = |path: &Path| path.as_os_str().is_empty();
        self.exclude_directories.is_empty()
            || !directory
                .ancestors()
                .any(|path| !is_root(path) && self.exclude_directories.is_match(path))
    }
}

fn set(
    globs: impl Iterator<Item = Result<Glob, globset::Error>>,
) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob?);
    }
    set.build()
}

fn glob(written: &str, ignore_case: bool) -> Result<Glob, globset::Error> {
    if written.contains('/') {
        glob_of_path(written, ignore_case)
    } else {
        glob_of_path(&format!("**/{written}"), ignore_case)
    }
}

fn glob_of_path(path: &str, ignore_case: bool) -> Result<Glob, globset::Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    GlobBuilder::new(path).literal_separator(true).case_insensitive(ignore_case).build()
}

/// Why a glob can match no path below an input, if it can match none.
fn matches_nothing(glob: &str, is_exclude: bool) -> Option<&'static str> {
    if glob.is_empty() {
        return Some("it is empty");
    }
    if !is_exclude && glob.ends_with('/') {
        return Some("`include` is for files, so it must not end in `/`");
    }
    let path = if is_exclude { glob.strip_suffix('/').unwrap_or(glob) } else { glob };
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').find_map(|name| match name {
        "" => Some("one of its names is empty"),
        "." => Some("no path below the input has `.` in it"),
        ".." => Some("no path below the input has `..` in it"),
        _ => None,
    })
}

/// Each glob with its own location.
fn located(entry: Entry<Vec<declare::LocatedText>>) -> Vec<Located<String>> {
    let Some(Located { value, at }) = entry.written else {
        return Vec::new();
    };
    let located = |declare::LocatedText(glob): declare::LocatedText| match &at {
        Location::File(_) => Located::from(glob),
        Location::Option(_) => Located { value: glob.into_inner(), at: at.clone() },
    };
    value.into_iter().map(located).collect()
}

impl Resolver {
    pub(super) fn filter(
        &mut self,
        (include, exclude): (Entry<Vec<declare::LocatedText>>, Entry<Vec<declare::LocatedText>>),
        ignore_case: bool,
    ) -> Filter {
        let (include, exclude) = (located(include), located(exclude));
        let include_or_exclude =
            include.iter().map(|one| (one, false)).chain(exclude.iter().map(|one| (one, true)));
        for (written, is_exclude) in include_or_exclude {
            let value = &written.value;
            if let Err(error) = Filter::new(std::slice::from_ref(value), &[], ignore_case) {
                let help = "globs are written `*.log`, `2026/**`, `*.{csv,tsv}`";
                let message = format!("`{value}` is not a glob: {}", error.kind());
                self.problems.add(Some(&written.at), message, Some(help));
            }
            if let Some(why) = matches_nothing(value, is_exclude) {
                let message = format!("`{value}` matches nothing: {why}");
                let help = "write `2026/**` for INPUT/2026 and all below it";
                self.problems.add(Some(&written.at), message, Some(help));
            }
        }
        let values =
            |all: &[Located<String>]| all.iter().map(|one| one.value.clone()).collect::<Vec<_>>();
        Filter::new(&values(&include), &values(&exclude), ignore_case)
            .unwrap_or_else(|_| Filter::all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluding(globs: &[&str]) -> Filter {
        let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
        Filter::new(&[], &globs, false).expect("globs")
    }

    #[test]
    fn a_glob_without_a_slash_matches_names_in_any_directory() {
        let filter = Filter::new(&["*.log".into()], &["tmp/**".into()], false).expect("globs");
        assert!(filter.allows("a.log".as_ref()));
        assert!(filter.allows("x/y/a.log".as_ref()));
        assert!(!filter.allows("a.txt".as_ref()));
        assert!(!filter.allows("tmp/a.log".as_ref()));
    }

    #[test]
    fn a_star_stays_within_one_directory() {
        let filter =
            Filter::new(&["2026/*.log".into(), "all/**/*.log".into()], &[], false).expect("globs");
        assert!(filter.allows("2026/a.log".as_ref()));
        assert!(!filter.allows("2026/x/a.log".as_ref()));
        assert!(filter.allows("all/a.log".as_ref()));
        assert!(filter.allows("all/x/y/a.log".as_ref()));
    }

    #[test]
    fn the_case_of_letters_is_ignored_on_request() {
        for (ignore_case, path, is_allowed) in
            [(false, "A.CSV", false), (true, "A.CSV", true), (true, "Tmp/a.csv", false)]
        {
            let globs = (["*.csv".to_owned()], ["tmp/".to_owned()]);
            let filter = Filter::new(&globs.0, &globs.1, ignore_case).expect("globs");
            assert_eq!(filter.allows(path.as_ref()), is_allowed, "{path}");
        }
    }

    #[test]
    fn without_include_everything_is_in() {
        let filter = excluding(&["*.part"]);
        assert!(filter.allows("x/a".as_ref()));
        assert!(!filter.allows("x/a.part".as_ref()));
    }

    #[test]
    fn an_excluded_directory_is_left_out_with_all_that_is_below_it() {
        let filter = excluding(&["node_modules", ".snapshot/**", "cache/", "a/b"]);
        for path in ["node_modules", "x/node_modules", ".snapshot", "cache", "x/cache", "a/b"] {
            assert!(!filter.enters(path.as_ref()), "{path}");
        }
        for path in ["x/node_modules/y/z", ".snapshot/hourly/f", "cache/f", "x/cache/f", "a/b/c"] {
            assert!(!filter.allows(path.as_ref()), "{path}");
        }
        for path in ["x/.snapshot/f", "c/a/b/f", "cache", "x/node_modules2/f"] {
            assert!(filter.allows(path.as_ref()), "{path}");
        }
        assert!(filter.enters("".as_ref()), "the input itself");
    }

    /// As git and rsync have it.
    #[test]
    fn a_slash_at_the_begin_is_the_input_itself() {
        let filter = excluding(&["/build", "/cache/", "/tmp/**", "/*.log"]);
        for path in ["build", "build/a", "cache/a", "tmp/a", "a.log"] {
            assert!(!filter.allows(path.as_ref()), "{path}");
        }
        for path in ["x/build", "x/build/a", "x/cache/a", "x/tmp/a", "x/a.log", "cache"] {
            assert!(filter.allows(path.as_ref()), "{path}");
        }
        let filter = Filter::new(&["/a.csv".into()], &[], false).expect("globs");
        assert!(filter.allows("a.csv".as_ref()) && !filter.allows("x/a.csv".as_ref()));
    }

    #[test]
    fn a_glob_that_can_match_nothing_is_known() {
        for glob in ["/", "//a", "./a", "/../a", "a/../b", "..", "a//b", ""] {
            assert!(matches_nothing(glob, true).is_some(), "{glob}");
        }
        assert!(matches_nothing("a/", false).is_some(), "`include` names files");
        for glob in [".snapshot/**", ".git/**", "**/.x", "a/.b", "...", "*.log", "cache/", "/a"] {
            assert_eq!(matches_nothing(glob, true), None, "{glob}");
        }
    }
}
