//! The binary: signals first, then the command line; the only place that ends the process.

use tidemill::error::Exit;

fn main() -> ! {
    end_where_main_panics();
    tidemill::fs::set_mmap_threshold();
    let exit = tidemill::cli::main();
    // Threads may be at work still where the third signal or the deadline ended the stop: nothing
    // waits for them, and every exit is safe.
    end(exit)
}

/// A panic of this thread ends the process as soon as it is reported: unwinding drops what is half
/// made, and a runtime that could not start all of its threads waits in that for ever.
fn end_where_main_panics() {
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        tidemill::observe::report_panic(panic);
        if std::thread::current().id() == main {
            end(Exit::Internal);
        }
    }));
}

fn end(exit: Exit) -> ! {
    tidemill::observe::flush_logs();
    #[expect(clippy::disallowed_methods, reason = "this is main.rs")]
    std::process::exit(exit.code())
}
