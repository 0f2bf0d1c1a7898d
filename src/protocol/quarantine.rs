//! Quarantine: files that failed for good, each with a reason file next to it, for the operator.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    config,
    fingerprint::Fingerprint,
    fs::{self, Dir, NodeId, Overwrite, Temp},
    observe::{display_path, shell_quoted},
    stage::Stage,
};

/// The suffix of a reason file's name.
const REASON_SUFFIX: &[u8] = b".json";
/// Names up to this length keep their full name in the reason file's name.
const REASON_STEM_BYTES_MAX: usize = crate::limits::NAME_BYTES_MAX - REASON_SUFFIX.len();
/// Limit for reading a reason file.
const REASON_BYTES_MAX: u64 = 64 * 1024;

/// The JSON record next to a quarantined file.
#[derive(Serialize)]
struct Reason<'a> {
    pipeline: &'a str,
    source: String,
    stage: Stage,
    error: &'a str,
    attempts: u32,
    at: String,
    /// The path of the file, if it was moved to quarantine.
    moved_to: Option<String>,
    identity: Fingerprint,
    transforms: String,
    /// BLAKE3 of the pipeline's resolved configuration.
    config_hash: String,
    requeue: String,
}

/// A file that goes to quarantine, and the reason.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineEntry<'a> {
    pub config: &'a config::Pipeline,
    pub instance: &'a NodeId,
    /// The source's path, relative to the input.
    pub path: &'a Path,
    pub identity: Fingerprint,
    pub stage: Stage,
    pub reason: &'a str,
    pub attempts: u32,
}

/// A name in quarantine that is free for one file and its reason file.
#[derive(Debug)]
pub struct QuarantineSlot {
    pub dir: Arc<Dir>,
    pub name: OsString,
}

impl QuarantineSlot {
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }
}

impl QuarantineEntry<'_> {
    fn source_path(&self) -> PathBuf {
        self.config.input.join(self.path)
    }

    /// Returns a free slot: the source's name, or `NAME.1`, `NAME.2`, … where neither the name nor
    /// its reason file's name is taken. A reason file that was written for this same source, and
    /// has no file next to it, is replaced.
    pub fn find_slot(&self) -> io::Result<QuarantineSlot> {
        let (parent, name) = fs::split(self.path);
        let dir = self.open(parent)?;
        let is_free = |name: &OsStr| -> io::Result<bool> {
            let taken = dir.stat(Path::new(name))?.is_some();
            Ok(!taken && self.may_replace_reason(&dir, &reason_name(name))?)
        };
        let name = if is_free(name)? {
            name.to_owned()
        } else {
            fs::free_number(name, "", REASON_STEM_BYTES_MAX, is_free)?
        };
        Ok(QuarantineSlot { dir, name })
    }

    fn open(&self, parent: &Path) -> io::Result<Arc<Dir>> {
        let root = &self.config.quarantine;
        let above =
            root.ancestors().find_map(|above| Dir::open(above).ok().map(|dir| (above, dir)));
        let Some((above, dir)) = above else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let below = root.strip_prefix(above).unwrap_or(Path::new(""));
        Ok(Arc::new(dir.make_beneath(&below.join(parent), fs::OWN_DIR_MODE)?))
    }

    fn may_replace_reason(&self, dir: &Dir, reason: &OsStr) -> io::Result<bool> {
        #[derive(serde::Deserialize)]
        struct ReasonSource {
            source: String,
            config_hash: String,
        }
        if dir.stat(Path::new(reason))?.is_none() {
            return Ok(true);
        }
        let Ok(mut file) = dir.open_file(Path::new(reason)) else {
            return Ok(false);
        };
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, REASON_BYTES_MAX), &mut text)?;
        let source = display_path(&self.source_path()).to_string();
        let is_ours = |reason: ReasonSource| {
            reason.source == source && reason.config_hash.len() == 2 * blake3::OUT_LEN
        };
        Ok(serde_json::from_slice(&text).is_ok_and(is_ours))
    }

    /// Writes `NAME.json`, atomically and durably. A name too long for that is cut.
    pub fn write_reason(&self, slot: &QuarantineSlot, moved_to: Option<&Path>) -> io::Result<()> {
        let temp = Temp::create(&slot.dir, self.instance)?;
        temp.file().write_all(&self.content(moved_to))?;
        temp.file().sync_all()?;
        let name = reason_name(&slot.name);
        temp.publish(&name, Overwrite::Allow).map_err(|(_, error)| error)?;
        slot.dir.sync()
    }

    fn content(&self, moved_to: Option<&Path>) -> Vec<u8> {
        let Self { config, identity, stage, reason, attempts, .. } = *self;
        let source = display_path(&self.source_path()).to_string();
        let reason = Reason {
            pipeline: &config.name,
            stage,
            error: reason,
            attempts,
            at: jiff::Timestamp::now().to_string(),
            moved_to: moved_to.map(|path| display_path(path).to_string()),
            identity,
            transforms: config.transforms.to_string(),
            config_hash: blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string(),
            requeue: format!("tidemill requeue {}", shell_quoted(&self.source_path())),
            source,
        };
        // JSON can hold all of it: strings and numbers only.
        let mut text = serde_json::to_vec_pretty(&reason).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// Returns the name of the reason file next to a file of this name.
#[must_use]
pub fn reason_name(name: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = name.as_bytes();
    OsString::from_vec([name.get(..REASON_STEM_BYTES_MAX).unwrap_or(name), REASON_SUFFIX].concat())
}
