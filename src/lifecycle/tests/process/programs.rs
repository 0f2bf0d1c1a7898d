//! The programs that the children run. Each one is a whole `main`, and ends the process itself.

use std::convert::Infallible;
use std::fs::{self, DirEntry};
use std::future::pending;
use std::io;
use std::time::{Duration, Instant};

use tidemill_lifecycle::{Deadlines, Lifecycle, Signals};
use tokio::runtime::Builder;

const LIMIT: Duration = Duration::from_secs(10);

/// Prints the steps of the stop, on a runtime of one thread; its close never ends on its own.
pub fn course() {
    // No runtime is needed to register.
    let signals = Signals::register().unwrap();
    begin();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let mut life = Lifecycle::new(Deadlines::default(), signals).unwrap();
        let handle = life.handle().clone();
        tokio::spawn(async move {
            handle.closing().cancelled().await;
            println!("closing {}", *handle.phase().borrow());
            handle.cut().cancelled().await;
            println!("cut {}", *handle.phase().borrow());
        });
        let handle = life.handle().clone();
        life.on_close("endless", LIMIT * 10, pending::<Result<(), Infallible>>);
        handle.closing().cancelled().await;
        let report = life.stop().await;
        handle.forced_stop().await;
        println!("forced stop");
        report
    });
    println!("{report}");
    exit(75);
}

/// Blocks every thread of its runtime; only the forced stop can end it.
pub fn hang() {
    let signals = Signals::register().unwrap();
    begin();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Lifecycle::new(Deadlines::default(), signals).unwrap();
        let forced_stop = life.handle().forced_stop();
        let mut phase = life.handle().phase();
        tokio::spawn(async {
            println!("blocked");
            loop {
                std::thread::park();
            }
        });
        let print_phases = async {
            while phase.changed().await.is_ok() {
                println!("{}", *phase.borrow_and_update());
            }
        };
        tokio::select! {
            () = print_phases => {}
            () = forced_stop => println!("forced stop"),
        }
    });
    exit(70);
}

/// Compares its threads after the stop with those before the start.
pub fn threads() {
    begin();
    let before = names_of_threads();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Lifecycle::new(Deadlines::default(), Signals::register().unwrap()).unwrap();
        println!("ready");
        life.handle().closing().cancelled().await;
        assert!(life.stop().await.is_clean());
    });
    drop(runtime);
    // A joined thread may be listed for an instant longer.
    let deadline = Instant::now() + LIMIT;
    while names_of_threads() != before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    println!("threads as before: {}", names_of_threads() == before);
    exit(0);
}

fn names_of_threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: io::Result<DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).collect()
}

/// Ends what the test harness has written on this line.
fn begin() {
    println!("\nprogram begins");
}

#[expect(clippy::disallowed_methods, reason = "the end of a `main`")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
