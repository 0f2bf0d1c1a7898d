//! `tidemill status`, `pause`, `resume` and `drain`, as a user types them.

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::mpsc,
};

use crate::{
    api::client::Service,
    files::{PATIENCE, TestDir},
};

#[test]
fn the_commands_find_the_service_control_it_and_wait_for_its_end() {
    let service = Service::start("", &[]);
    let place = &service.place;
    let ran = place.run(&["status"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains(": READY, up for "), "{ran:?}");
    assert!(ran.stdout.contains("\n  idle"), "{ran:?}");
    let json = place.run(&["status", "--json", "--state-dir", "state"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["can_change"], true);
    let paused = place.run(&["pause"]);
    assert_eq!((paused.code, paused.stdout.contains("nothing new is taken")), (0, true));
    assert!(place.run(&["status"]).stdout.contains(": PAUSED by the operator since "));
    assert_eq!(place.run(&["resume", "main"]).stdout, "main is resumed\n");
    let unknown = place.run(&["pause", "other"]);
    assert_eq!(unknown.code, 64, "{unknown:?}");
    assert!(unknown.stderr.contains("no pipeline `other`"), "{unknown:?}");
    let drained = place.run(&["drain", "--wait"]);
    assert_eq!((drained.code, &*drained.stdout), (0, "the service exited\n"), "{drained:?}");
    assert_eq!(service.running.end().code, 0);
    let none = service.place.run(&["status"]);
    assert_eq!(none.code, 69, "{none:?}");
    assert!(none.stderr.contains("no service runs with the state in "), "{none:?}");
}

#[test]
fn a_service_without_a_socket_is_reported_as_one() {
    let place = TestDir::new();
    let running = place.watch(&["--admin-socket", "off"]);
    let ran = place.run(&["status"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("--admin-socket off"), "{ran:?}");
    drop(running);
    let piped = place.run(&["status", "--watch"]);
    assert_eq!(piped.code, 64, "{piped:?}");
}

#[test]
fn the_live_view_ends_on_ctrl_c_and_gives_the_terminal_back() {
    let service = Service::start("", &[]);
    // `exec` replaces the shell: one that waits would report the signal, not the program.
    let shown = format!("exec {} status --watch", env!("CARGO_BIN_EXE_tidemill"));
    // `script` provides a terminal.
    let mut terminal = std::process::Command::new("script")
        .args(["-qefc", &shown, "/dev/null"])
        .current_dir(service.place.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let (send, pieces) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut piece) {
            if send.send(String::from_utf8_lossy(&piece[..count]).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    while !text.contains("files/s") {
        text += &pieces.recv_timeout(PATIENCE).expect("no live view");
    }
    terminal.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    while let Ok(piece) = pieces.recv_timeout(PATIENCE) {
        text += &piece;
    }
    reader.join().unwrap();
    assert!(terminal.wait().unwrap().success(), "{text:?}");
    assert!(text.contains("\x1b[?1049h\x1b[?25l"), "{text:?}");
    assert!(text.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "{text:?}");
}
