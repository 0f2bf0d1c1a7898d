//! The binary: signals first, then the command line; the only place that ends the process.

use std::process::ExitCode;

use tidemill::error::Exit;

fn main() -> ExitCode {
    // A panic has told of itself.
    let exit = std::panic::catch_unwind(tidemill::cli::main).unwrap_or(Exit::Internal);
    // Threads may be at work still where the third signal or the deadline ended the stop: nothing
    // waits for them, and every exit is safe.
    #[expect(clippy::disallowed_methods, reason = "this is main.rs")]
    std::process::exit(exit.code())
}
