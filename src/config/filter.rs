//! Which files below an input are a pipeline's.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Globs over paths below the input: any of `include` (or all, where there is none), none of `exclude`.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    written: Written,
}

/// What was written decides.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// The globs as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

impl Filter {
    /// A glob without a `/` matches the file's name in any directory, one with it the whole path:
    /// there `*` stays within one directory, and `**` does not.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, globset::Error> {
        Ok(Self {
            include: if include.is_empty() { None } else { Some(set(include)?) },
            exclude: set(exclude)?,
            written: Written { include: include.to_vec(), exclude: exclude.to_vec() },
        })
    }

    /// The globs it was made from.
    #[must_use]
    pub const fn written(&self) -> &Written {
        &self.written
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { include: None, exclude: GlobSet::empty(), written: Written::default() }
    }

    /// Whether the file at this path below the input is the pipeline's.
    #[must_use]
    pub fn allows(&self, relative: &Path) -> bool {
        let included = self.include.as_ref().is_none_or(|set| set.is_match(relative));
        included && !self.exclude.is_match(relative)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let anywhere = if glob.contains('/') { glob.clone() } else { format!("**/{glob}") };
        set.add(GlobBuilder::new(&anywhere).literal_separator(true).build()?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_without_a_slash_matches_names_in_any_directory() {
        let filter = Filter::new(&["*.log".into()], &["tmp/**".into()]).expect("globs");
        assert!(filter.allows("a.log".as_ref()));
        assert!(filter.allows("x/y/a.log".as_ref()));
        assert!(!filter.allows("a.txt".as_ref()));
        assert!(!filter.allows("tmp/a.log".as_ref()));
    }

    #[test]
    fn a_star_stays_within_one_directory() {
        let filter =
            Filter::new(&["2026/*.log".into(), "all/**/*.log".into()], &[]).expect("globs");
        assert!(filter.allows("2026/a.log".as_ref()));
        assert!(!filter.allows("2026/x/a.log".as_ref()));
        assert!(filter.allows("all/a.log".as_ref()));
        assert!(filter.allows("all/x/y/a.log".as_ref()));
    }

    #[test]
    fn without_include_everything_is_in() {
        let filter = Filter::new(&[], &["*.part".into()]).expect("globs");
        assert!(filter.allows("x/a".as_ref()));
        assert!(!filter.allows("x/a.part".as_ref()));
    }
}
