//! Real signals. The programs are this test binary again: `PROGRAM` names the one to run.

use std::process::Command;

use rustix::process::Signal;

use super::{Program, programs};

/// The environment variable that names the program a child runs.
const PROGRAM: &str = "LIFECYCLE_TEST_PROGRAM";

/// Not a test but the `main` of the children.
#[test]
#[ignore = "run by the tests of this file, as their child"]
fn child() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("course") => programs::course(),
        Ok("hang") => programs::hang(),
        Ok("threads") => programs::threads(),
        _ => {}
    }
}

fn run(name: &str) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["signals::child", "--exact", "--ignored", "--nocapture", "--quiet"]);
    let program = Program::start(command.arg("--test-threads=1").env(PROGRAM, name));
    program.until("program begins");
    program
}

#[test]
fn the_second_signal_cuts_and_the_third_forces_the_stop() {
    let program = run("course");
    for (signal, line) in [
        (Signal::TERM, "closing CLOSING"),
        (Signal::INT, "cut COMMITTING"),
        (Signal::TERM, "forced stop"),
    ] {
        program.signal(signal);
        assert_eq!(program.line(), line);
    }
    let (status, lines) = program.end();
    assert_eq!(lines[0], "resource endless: close abandoned");
    assert_eq!(status.code(), Some(75), "{status}");
}

#[test]
fn l7_the_third_signal_forces_the_stop_though_every_thread_of_the_runtime_is_blocked() {
    let program = run("hang");
    assert_eq!(program.line(), "blocked");
    for (signal, line) in [(Signal::INT, "CLOSING"), (Signal::TERM, "COMMITTING")] {
        program.signal(signal);
        assert_eq!(program.line(), line);
    }
    program.signal(Signal::INT);
    let (status, lines) = program.end();
    assert_eq!(lines, ["forced stop"]);
    assert_eq!(status.code(), Some(70), "{status}");
}

#[test]
fn a_stop_leaves_no_thread() {
    let program = run("threads");
    assert_eq!(program.line(), "ready");
    program.signal(Signal::INT);
    let (status, lines) = program.end();
    assert_eq!(lines, ["threads as before: true"]);
    assert_eq!(status.code(), Some(0), "{status}");
}
