//! discover: finds the names of the input. Owns the scans; never opens a file.
//!
//! Events are hints, the source is the truth: the intake looks at each path that an event names.
//! Scans find the files without an event: a full one at the start, after an overflow and at regular
//! intervals, and one of each new sub-directory. A failed scan never means that a file was deleted.

use std::{
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    config::{self, Filter},
    fingerprint::{FileId, Fingerprint},
    fs::{self, FileMetadata, Kind},
    ledger::{Ledger, RecordId},
    pipeline::job::{Arrival, DiscoveredBy, Observation},
    policy::{OnSuccess, SourceRules, TemporaryNames},
    protocol::eligibility::{self, is_stale},
    source::{self, Listing, Look, NamedBy, Page, Source, successions::Successions},
};

/// A scan of the input, or of a part of it.
#[derive(Debug)]
pub struct Scan {
    listing: Box<dyn Listing>,
    pub origin: DiscoveredBy,
}

impl Scan {
    #[must_use]
    pub fn new(
        input: &dyn Source,
        own: &Arc<[FileId]>,
        below: PathBuf,
        origin: DiscoveredBy,
    ) -> Self {
        Self { listing: input.list(below, own), origin }
    }

    /// Returns the next page, with up to `limit` files; one without files is the end. A directory that
    /// cannot be listed is logged and skipped.
    pub fn next(&mut self, input: &dyn Source, discovery: &Discovery, limit: usize) -> Page {
        let page = self.listing.next_page(limit, &|directory| discovery.enters(directory));
        for error in &page.failed {
            let path = error.path.strip_prefix(input.path()).unwrap_or(&error.path);
            tracing::warn!(event = "intake.list_failed", path = %crate::observe::display_path(path), error = %error.source, "cannot list an input directory");
        }
        page
    }
}

/// The result of one look at a path.
#[derive(Debug)]
pub enum LookResult {
    /// A file of the pipeline.
    File(Observation),
    /// A directory that may have files without an event.
    Directory,
    /// One of the service's own directories also has this path, through another mount.
    OwnDirectory(PathBuf),
    /// It is in this state directory of a service, or is that directory.
    StateDirectory(PathBuf),
    /// The input itself is mounted below itself: this is the file's path in the input.
    InNestedInput(PathBuf),
    /// No file of this pipeline.
    None,
    /// No file.
    Missing,
}

/// Returns where the watch notes the successions of the input's names; `None` if sources are not kept.
#[must_use]
pub fn successions(
    config: &config::Pipeline,
    ledger: &Arc<dyn Ledger>,
) -> Option<Arc<Successions>> {
    if config.on_success != OnSuccess::Keep {
        return None;
    }
    let discovery = Discovery::of(config);
    let names = discovery.clone();
    let is_temporary = move |path: &Path| !names.has_final_name(path);
    // The watch's queue, which has the successions, lasts longer than the ledger.
    let ledger = Arc::downgrade(ledger);
    let next_id = move || ledger.upgrade().map_or(RecordId::MAX, |it| it.session().next_id());
    let counts = move |path: &Path| discovery.allows(path);
    Some(Arc::new(Successions::new(counts, is_temporary, next_id)))
}

/// The rules by which a path belongs to a pipeline.
#[derive(Clone, Debug)]
pub struct Discovery {
    filter: Filter,
    temporary_names: TemporaryNames,
    marker: Option<String>,
    rules: SourceRules,
    /// The IDs of the service's own files and directories, and of the input's root.
    own_ids: Arc<[FileId]>,
}

impl Discovery {
    #[must_use]
    pub fn of(config: &config::Pipeline) -> Self {
        let (filter, marker) = (config.filter.clone(), config.keys.marker.clone());
        let (temporary_names, rules) = (config.keys.temporary_names, config.rules());
        Self { filter, temporary_names, marker, rules, own_ids: Arc::new([]) }
    }

    /// Sets the IDs that no path below the input may lead to.
    pub fn set_own_ids(&mut self, own_ids: Vec<FileId>) {
        if *own_ids != *self.own_ids {
            self.own_ids = own_ids.into();
        }
    }

    #[must_use]
    pub const fn own_ids(&self) -> &Arc<[FileId]> {
        &self.own_ids
    }

    /// Checks whether the directory at this path may hold files of the pipeline.
    #[must_use]
    pub fn enters(&self, directory: &Path) -> bool {
        self.has_final_name(directory) && self.filter.enters(directory)
    }

    /// Checks whether a file of this name belongs to the pipeline, as far as the name decides.
    #[must_use]
    pub fn allows(&self, path: &Path) -> bool {
        self.has_final_name(path) && self.filter.allows(path) && !self.is_marker(path)
    }

    fn is_marker(&self, path: &Path) -> bool {
        let ends = |marker: &String| path.as_os_str().as_bytes().ends_with(marker.as_bytes());
        self.marker.as_ref().is_some_and(ends)
    }

    fn has_final_name(&self, path: &Path) -> bool {
        let is_internal = path.iter().any(fs::is_internal_name);
        let is_temporary = || {
            self.temporary_names == TemporaryNames::Ignore && config::temporary_name(path).is_some()
        };
        !is_internal && !is_temporary()
    }

    /// Returns the path to look at after an event: for a marker that of the marked file.
    #[must_use]
    pub fn marked_file(&self, path: PathBuf) -> PathBuf {
        let Some(marker) = &self.marker else {
            return path;
        };
        match path.as_os_str().as_bytes().strip_suffix(marker.as_bytes()) {
            Some(stem) if !stem.is_empty() => {
                PathBuf::from(std::ffi::OsString::from_vec(stem.to_vec()))
            }
            _ => path,
        }
    }

    /// Looks at a path, by name only.
    pub fn look(
        &self,
        input: &dyn Source,
        path: &Path,
        origin: DiscoveredBy,
    ) -> source::Result<LookResult> {
        if !self.has_final_name(path) {
            return Ok(LookResult::None);
        }
        let named_by = match origin {
            DiscoveredBy::Event => NamedBy::Event,
            DiscoveredBy::Scan
            | DiscoveredBy::Rescan
            | DiscoveredBy::Rest
            | DiscoveredBy::Again => NamedBy::Listing,
        };
        let metadata = match input.look(path, named_by, &self.own_ids)? {
            Look::Found(metadata) => metadata,
            Look::Missing => return Ok(LookResult::Missing),
            Look::OwnDirectory(directory) => return Ok(LookResult::OwnDirectory(directory)),
            Look::StateDirectory(directory) => return Ok(LookResult::StateDirectory(directory)),
            Look::InNestedInput(path) => return Ok(LookResult::InNestedInput(path)),
        };
        match metadata.kind {
            Kind::Directory if self.filter.enters(path) => return Ok(LookResult::Directory),
            Kind::Directory => return Ok(LookResult::None),
            Kind::File => {}
            kind => {
                tracing::debug!(event = "file.ignored", source = %crate::observe::display_path(path), kind = kind.as_str(), "not a regular file, ignored");
                return Ok(LookResult::None);
            }
        }
        if !self.filter.allows(path) || !self.is_marked(input, path, &metadata)? {
            return Ok(LookResult::None);
        }
        if let Some(reason) = eligibility::skip_reason(self.rules, input, &metadata)? {
            tracing::debug!(event = "file.ignored", source = %crate::observe::display_path(path), reason, "excluded by the source rules, ignored");
            return Ok(LookResult::None);
        }
        let Fingerprint { mtime_ns, ctime_ns, .. } = metadata.identity;
        let age = age(mtime_ns.max(ctime_ns));
        Ok(LookResult::File(Observation { metadata, age, origin, arrival: Arrival::Unknown }))
    }

    /// Checks whether the file's marker exists, if it needs one; a marker itself counts as unmarked.
    fn is_marked(
        &self,
        input: &dyn Source,
        path: &Path,
        metadata: &FileMetadata,
    ) -> source::Result<bool> {
        let Some(marker) = &self.marker else {
            return Ok(true);
        };
        if self.is_marker(path) {
            return Ok(false);
        }
        let mut marker_path = path.as_os_str().to_owned();
        marker_path.push(marker);
        let marker = match input.stat_fresh(Path::new(&marker_path)) {
            // No file can have this name.
            Err(error) if error.source.kind() == io::ErrorKind::InvalidFilename => None,
            marker => marker?,
        };
        Ok(marker.is_some_and(|marker| !is_stale(&marker, metadata)))
    }
}

fn age(ctime_ns: i64) -> Duration {
    let changed = Duration::from_nanos(u64::try_from(ctime_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed)
}
