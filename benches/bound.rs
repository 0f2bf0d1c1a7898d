//! The classic recipe, as a bound to compare with: threads that for each file compress, write a
//! temporary file, `fsync` it, rename it and `fsync` the directory.
//!
//! `cargo bench --bench bound -- INPUT OUTPUT [THREADS]`; the codec is the service's own.

use std::{
    error::Error,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use tidemill::{codec::Transformer, policy::Bounds};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    // cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [input, output, rest @ ..] = args.as_slice() else {
        println!("bound: give INPUT OUTPUT [THREADS] (benches/run does)");
        return Ok(());
    };
    let threads = rest.first().map_or(Ok(2), |count| count.parse())?;
    let mut files = Vec::new();
    find(Path::new(input), &mut files)?;
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let work = || work(&files, &next, Path::new(input), Path::new(output));
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} files in {seconds:.3} s", files.len());
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

fn work(files: &[PathBuf], next: &AtomicUsize, input: &Path, output: &Path) -> Result<()> {
    let bounds = Bounds { output_bytes: u64::MAX, ratio: u64::MAX };
    let mut zstd = Transformer::new(&"zstd:3".parse()?, bounds, 0)?;
    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
        let content = fs::read(file)?;
        let mut packed = Vec::new();
        zstd.start();
        zstd.feed(&content, &mut packed)?;
        zstd.finish(&mut packed)?;
        let target = output.join(file.strip_prefix(input)?);
        let dir = target.parent().ok_or("no parent")?;
        fs::create_dir_all(dir)?;
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        temp.write_all(&packed)?;
        temp.as_file().sync_all()?;
        temp.persist(target.with_added_extension("zst"))?;
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
