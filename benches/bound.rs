//! Hand-written bounds to compare with; the codec is the service's own.
//!
//! `cargo bench --bench bound -- INPUT OUTPUT [THREADS] [classic|staged]`
//!
//! classic: threads that for each file compress, write a temporary file, `fsync` it, rename it and
//! `fsync` the directory.
//! staged: threads that compress and write temporary files, and one that makes entire batches of
//! them durable by `syncfs`, renames them and `fsync`s their directories. It has no ledger and
//! no recovery: it is the cost of the same work without the guarantees.

use std::{
    collections::BTreeSet,
    error::Error,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Instant,
};

use tempfile::NamedTempFile;
use tidemill::{policy::ExpansionLimits, transforms::Transformer};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The largest group commit of the staged bound, in files.
const BATCH: usize = 512;

/// An output without its final name.
struct Written {
    temp: NamedTempFile,
    target: PathBuf,
}

/// The unfinished files.
struct Work {
    files: Vec<PathBuf>,
    next: AtomicUsize,
    input: PathBuf,
    output: PathBuf,
}

fn main() -> Result<()> {
    // cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [input, output, rest @ ..] = args.as_slice() else {
        println!("bound: give INPUT OUTPUT [THREADS] [classic|staged] (benches/compare does)");
        return Ok(());
    };
    let threads = rest.first().map_or(Ok(2), |count| count.parse())?;
    let staged = rest.get(1).is_some_and(|kind| kind == "staged");
    let mut files = Vec::new();
    find(Path::new(input), &mut files)?;
    let (input, output) = (input.into(), output.into());
    let work = Work { files, next: AtomicUsize::new(0), input, output };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (written, batches) = mpsc::sync_channel(BATCH);
        let work = &work;
        // It owns the receiver: if it fails, the workers' sends fail, and they end too.
        let committer = scope.spawn(move || if staged { commit(work, &batches) } else { Ok(()) });
        let written = staged.then_some(written);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let written = written.clone();
                scope.spawn(move || work.run(written.as_ref()))
            })
            .collect();
        // The committer ends when the last worker has.
        drop(written);
        for thread in workers.into_iter().chain([committer]) {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} files in {seconds:.3} s", work.files.len());
    Ok(())
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

impl Work {
    /// Compresses the remaining files; commits each one, or sends it to the committer.
    fn run(&self, committer: Option<&mpsc::SyncSender<Written>>) -> Result<()> {
        let bounds =
            ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 1 << 27 };
        let mut zstd = Transformer::new(&"zstd:3".parse()?, bounds, 0)?;
        let mut packed = Vec::new();
        while let Some(file) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let content = fs::read(file)?;
            packed.clear();
            zstd.start("a".as_ref());
            zstd.feed(&content, &mut packed)?;
            zstd.finish(&mut packed)?;
            let target = self.output.join(file.strip_prefix(&self.input)?);
            let dir = target.parent().ok_or("no parent")?;
            fs::create_dir_all(dir)?;
            let mut temp = NamedTempFile::new_in(dir)?;
            temp.write_all(&packed)?;
            let written = Written { temp, target: target.with_added_extension("zst") };
            if let Some(committer) = committer {
                committer.send(written)?;
                continue;
            }
            written.temp.as_file().sync_all()?;
            let dir = dir.to_path_buf();
            written.temp.persist(written.target)?;
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// Commits one batch of received files after another.
fn commit(work: &Work, written: &mpsc::Receiver<Written>) -> Result<()> {
    let root = File::open(&work.output)?;
    while let Ok(first) = written.recv() {
        let batch: Vec<_> =
            std::iter::once(first).chain(written.try_iter().take(BATCH - 1)).collect();
        rustix::fs::syncfs(&root)?;
        let mut dirs = BTreeSet::new();
        for Written { temp, target } in batch {
            dirs.extend(target.parent().map(Path::to_path_buf));
            temp.persist(target)?;
        }
        for dir in dirs {
            File::open(dir)?.sync_all()?;
        }
    }
    Ok(())
}
