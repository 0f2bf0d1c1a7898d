//! write: the output's bytes in the sink, where nobody sees them yet.
//!
//! Owns: the staged output. Never makes a final name appear.
//!
//! W1: a staged output has the number of bytes that were written, by the file's own metadata: on a
//! full disk every write can still succeed ([`Writer::finish`]).
//! W2: the directory of a staged output is durable up to the output's root
//! ([`Sink::create`](sink::Sink::create)).

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::{
    config::Pipeline,
    failpoint,
    ledger::{Hash, Sha256},
    pipeline::{
        failure::WriteError,
        job::{FailedJob, Job, Staged, Transformed},
        output_hasher::{Hashes, OutputHasher},
        side_file::SideFile,
    },
    protocol::conflict::{self, NoOutputName},
    sink::{self, Sealing, Writer},
};

/// An output that is being written. Dropping it discards the output.
#[derive(Debug)]
pub struct Draft {
    writer: Box<dyn Writer>,
    /// The final path, below the output.
    output: PathBuf,
    hasher: OutputHasher,
}

/// Writes a small file's output.
pub fn write_small(file: Transformed) -> Result<Staged, Box<FailedJob>> {
    let Transformed { mut job, bytes, hashes } = file;
    let staged = failpoint::hit("write")
        .map_err(|source| WriteError::Io { path: job.source_path(), source })
        .and_then(|()| begin(&job))
        .and_then(|(mut writer, output)| {
            let written = writer.write(&bytes);
            let staged = written
                .and_then(|()| writer.finish(job.attributes(), &hashes.output, Sealing::Batch));
            let staged = staged.and_then(|file| {
                Ok((file, stage_side_file(&job, &output, hashes.sha256.as_ref())?))
            });
            Ok((staged.map_err(|error| write_error(&job, error))?, output))
        });
    drop(bytes);
    job.release_bytes();
    match staged {
        Ok(((file, side), output)) => Ok(Staged { job, file, output, hashes, side }),
        Err(error) => Err(Box::new(job.fail(error))),
    }
}

/// Begins the output of a job, and returns its path.
fn begin(job: &Job) -> Result<(Box<dyn Writer>, PathBuf), WriteError> {
    let output = output_path(job)?;
    // A model that cannot be read is no reason not to publish.
    let model = |path: &Path| job.input.stat(path).ok().flatten();
    let writer = job.context.sink.create(&output, &model);
    Ok((writer.map_err(|error| write_error(job, error))?, output))
}

fn stage_side_file(
    job: &Job,
    output: &Path,
    sha256: Option<&Sha256>,
) -> Result<Option<SideFile>, sink::Error> {
    SideFile::stage((&*job.context.sink, &*job.input, &job.metadata), output, sha256)
}

fn write_error(job: &Job, error: sink::Error) -> WriteError {
    WriteError::of(job.source_path(), error)
}

impl Draft {
    pub fn begin(job: &Job) -> Result<Self, WriteError> {
        let (writer, output) = begin(job)?;
        let hasher = OutputHasher::new(job.context.config.keys.checksum);
        Ok(Self { writer, output, hasher })
    }

    /// Adds a chunk of a large file's output.
    pub fn add(&mut self, job: &Job, chunk: &[u8]) -> Result<(), WriteError> {
        hit_write(job)?;
        self.hasher.update(chunk);
        self.writer.write(chunk).map_err(|error| write_error(job, error))
    }

    /// Returns another handle, to read the written content; `None` if the sink copies nothing.
    pub fn reader(&self, job: &Job) -> Result<Option<File>, WriteError> {
        self.writer.reader().map_err(|error| write_error(job, error))
    }

    /// Shares the blocks of the entire source with the draft; false if the sink cannot.
    pub fn share(&mut self, job: &Job, source: &File) -> Result<bool, WriteError> {
        hit_write(job)?;
        let shared = self.writer.share(source, job.metadata.identity.size);
        shared.map_err(|error| write_error(job, error))
    }

    /// Copies up to `limit` of the source's next bytes without reading them: 0 at the source's end, `None`
    /// if the sink cannot copy from it.
    pub fn copy(
        &mut self,
        job: &Job,
        source: &File,
        limit: usize,
    ) -> Result<Option<u64>, WriteError> {
        hit_write(job)?;
        self.writer.copy(source, limit).map_err(|error| write_error(job, error))
    }

    /// Sets the hasher of the copied content.
    pub fn set_hasher(&mut self, hasher: OutputHasher) {
        self.hasher = hasher;
    }

    /// Finishes a large file. Without a source hash the output is a copy of its source.
    pub fn finish(self, job: Job, source_hash: Option<Hash>) -> Result<Staged, Box<FailedJob>> {
        let Self { writer, output, hasher } = self;
        let (hash, sha256) = hasher.finish();
        let staged = writer.finish(job.attributes(), &hash, Sealing::Single);
        let side = |file| Ok((file, stage_side_file(&job, &output, sha256.as_ref())?));
        match staged.and_then(side) {
            Ok((file, side)) => {
                let hashes = Hashes { source: source_hash.unwrap_or(hash), output: hash, sha256 };
                Ok(Staged { job, file, output, hashes, side })
            }
            Err(error) => {
                let error = write_error(&job, error);
                Err(Box::new(job.fail(error)))
            }
        }
    }
}

fn hit_write(job: &Job) -> Result<(), WriteError> {
    failpoint::hit("write").map_err(|source| WriteError::Io { path: job.source_path(), source })
}

/// Returns the path of a source's output, below the output's root.
fn output_path(job: &Job) -> Result<PathBuf, WriteError> {
    let path = || job.source_path();
    let Pipeline { transforms, keys, .. } = &job.context.config;
    conflict::output_path(&job.path, (transforms, keys.checksum)).map_err(|error| match error {
        NoOutputName::Empty => WriteError::NoName { path: path() },
        NoOutputName::TooLong(bytes) => WriteError::NameTooLong { path: path(), bytes },
    })
}
