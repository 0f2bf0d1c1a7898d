//! The binary: runs the command line and ends the process; no other code ends it.

use tidemill::error::Exit;

fn main() -> ! {
    exit_on_main_panic();
    tidemill::fs::set_mmap_threshold();
    let code = tidemill::cli::main();
    // Threads may still run after the third signal or the deadline ended the stop: the process does not
    // wait for them, and every exit is safe.
    exit(code)
}

/// Ends the process as soon as a panic of this thread is reported: unwinding would drop a partly
/// started runtime, which waits indefinitely if it could not start all of its threads.
fn exit_on_main_panic() {
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        tidemill::observe::report_panic(panic);
        if std::thread::current().id() == main {
            exit(Exit::Internal);
        }
    }));
}

fn exit(code: Exit) -> ! {
    tidemill::observe::flush_logs();
    #[expect(clippy::disallowed_methods, reason = "this is main.rs")]
    std::process::exit(code.code())
}
