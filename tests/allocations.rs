//! The cost model of benches/README.md: what one small file more costs in allocations. The service
//! runs in this process, under an allocator that counts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator is unsafe to be, and this one hands everything on")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tidemill::{
    config::{self, FileOptions, Options, PipelineOptions},
    error::Exit,
    service,
};
use tidemill_lifecycle::Signals;

#[path = "support/prove.rs"]
#[expect(dead_code, reason = "the other executables use the rest")]
mod prove;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const FEW: u64 = 128;
const MANY: u64 = 640;
const PAIRS: usize = 3;
/// Of one file, of 9 bytes each.
const SOURCE_LINES: usize = 333;
/// The most for each file. It is the same on every machine but for the batches that files happen
/// to meet in, which share little.
const ALLOCATIONS_EACH: u64 = 40;
/// Content, output and names; SQLite's memory is C's and not in it, nor are the codecs'.
const BYTES_EACH: u64 = 32 * 1024;

/// Allocations and their bytes of one run over this many files.
fn run(files: u64) -> (u64, u64) {
    let root = tempfile::tempdir().unwrap();
    let (input, output) = (root.path().join("in"), root.path().join("out"));
    fs::create_dir(&input).unwrap();
    fs::create_dir(&output).unwrap();
    for number in 0..files {
        fs::write(input.join(format!("{number}")), format!("{number:>8}\n").repeat(SOURCE_LINES))
            .unwrap();
    }
    let options = Options {
        pipeline: PipelineOptions {
            input: Some(input),
            output: Some(output.clone()),
            ..PipelineOptions::default()
        },
        once: true,
        file: FileOptions {
            http: Some("off".to_owned()),
            // It would bind this process, and its next run.
            sandbox: Some("off".to_owned()),
            ..FileOptions::default()
        },
        ..Options::default()
    };
    let config = config::load(&options).unwrap();
    let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
    let exit = service::run(config, options, Signals::none().unwrap());
    let after = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
    assert_eq!(exit, Exit::Success);
    let names = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
    let published =
        names.filter(|path| path.extension().is_some_and(|extension| extension == "zst"));
    assert_eq!(published.count() as u64, files);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_small_file_costs_the_allocations_of_the_cost_model() {
    // What is made once and kept is made here.
    run(FEW);
    let each = |many: u64, few: u64| many.saturating_sub(few) / (MANY - FEW);
    // A busy machine gathers smaller batches, which add to each of their files: the least of some pairs is
    // the files' own.
    let pairs = [(); PAIRS].map(|()| {
        let (few, many) = (run(FEW), run(MANY));
        (each(many.0, few.0), each(many.1, few.1))
    });
    let allocations = pairs.iter().map(|pair| pair.0).min().unwrap_or_default();
    let bytes = pairs.iter().map(|pair| pair.1).min().unwrap_or_default();
    assert!(allocations > 0, "the allocator does not count");
    assert!(allocations <= ALLOCATIONS_EACH, "{allocations} allocations for each file");
    assert!(bytes <= BYTES_EACH, "{bytes} bytes are allocated for each file");
    let figures: [(&str, &dyn std::fmt::Display); 2] =
        [("allocations_per_file", &allocations), ("bytes_per_file", &bytes)];
    prove::report("a_small_file_costs_the_allocations_of_the_cost_model", &figures);
}
