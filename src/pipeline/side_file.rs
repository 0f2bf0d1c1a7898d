//! The checksum file of a staged output, which is staged, sealed and published as the output is.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    failpoint,
    fs::{ExtendedAttributes, FileMetadata},
    ledger::{Output, Sha256},
    protocol::side_file,
    sink::{self, Attributes, Precondition, Sealing, Sink},
    source::Source,
};

/// A checksum file in the sink. Dropping it discards it unless it is published: its intent needs no staged
/// file, because recovery writes it from the record.
#[derive(Debug)]
pub struct SideFile {
    file: Box<dyn sink::Staged>,
    /// Its path below the output.
    pub path: PathBuf,
    /// The name under which it was staged.
    temp: OsString,
    /// What must have its name: the checksum file of the output that is replaced, or nothing.
    pub precondition: Precondition,
}

impl SideFile {
    /// Stages the checksum file of an output with this path; none without a digest. It gets the mode, owner
    /// and time of the source, as the output does.
    pub fn stage(
        (sink, input, metadata): (&dyn Sink, &dyn Source, &FileMetadata),
        output: &Path,
        sha256: Option<&Sha256>,
    ) -> Result<Option<Self>, sink::Error> {
        let Some(sha256) = sha256 else { return Ok(None) };
        let path = side_file::path(output);
        let content = side_file::content(sha256, output);
        let model = |path: &Path| input.stat(path).ok().flatten();
        let mut writer = sink.create(&path, &model)?;
        writer.write(&content)?;
        // The source's extended attributes belong to its own content.
        let extended = ExtendedAttributes::default();
        let attributes = Attributes { metadata, extended: &extended };
        let hash = *blake3::hash(&content).as_bytes();
        let file = writer.finish(attributes, &hash, Sealing::Batch)?;
        let temp = file.staged_name().to_owned();
        Ok(Some(Self { file, path, temp, precondition: Precondition::Absent }))
    }

    /// Returns its file in the sink, and its path.
    pub fn place(&self) -> (&dyn sink::Staged, &Path) {
        (&*self.file, &self.path)
    }

    pub fn file_mut(&mut self) -> &mut dyn sink::Staged {
        &mut *self.file
    }

    /// Checks whether it has its final name.
    pub fn is_published(&self) -> bool {
        self.file.staged_name().is_empty()
    }

    /// Gives it its final name (C8: before its output has its own).
    pub fn publish(&mut self) -> Result<(), sink::Error> {
        failpoint::hit("commit::side")
            .map_err(|error| sink::Error::of_publish(self.path.clone(), error))?;
        self.file.publish(&self.path, self.precondition)?;
        failpoint::pass("commit::side_renamed");
        Ok(())
    }

    /// Discards it, with the second name that a published one may have.
    pub fn discard(mut self) {
        self.file.unprotect();
    }

    /// Takes it back with its output, from a directory that was moved away, and discards it.
    pub fn take_back(mut self) -> Result<(), sink::Error> {
        let output = Output {
            path: self.path.clone(),
            temp: self.temp.clone(),
            identity: self.file.identity(),
            hash: [0; 32],
            source_hash: [0; 32],
            replaces: None,
            transforms: String::new(),
            sha256: None,
        };
        self.file.take_back(&output)?;
        self.discard();
        Ok(())
    }
}
