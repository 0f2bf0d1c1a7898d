//! What a terminal shows: the live view, the status and the bar of `--once`, in windows of several sizes.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::files::{TestDir, until};

/// A command in a terminal of its own. Dropping it ends it.
struct Terminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// `script` makes the terminal, `stty` its size.
    fn start(place: &TestDir, (columns, rows): (u16, u16), args: &str, failpoints: &str) -> Self {
        let command = format!(
            "stty columns {columns} rows {rows}; exec {} {args}",
            env!("CARGO_BIN_EXE_tidemill")
        );
        let mut child = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .current_dir(place.root())
            .env("FAILPOINTS", failpoints)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut output, written) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                written.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { child, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn press(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// Waits for the exit code.
    fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A text without its escape sequences.
fn plain(text: &str) -> String {
    let mut letters = text.chars();
    let mut kept = String::new();
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else if letter != '\r' {
            kept.push(letter);
        }
    }
    kept
}

#[test]
fn the_live_view_fills_the_window_and_no_line_is_wider() {
    let place = TestDir::new();
    let running = place.watch_with(&[], "write=sleep(3600000)");
    for number in 0..40 {
        place.put(format!("{}file-{number}", "long/".repeat(30)), "content");
    }
    until("files are in flight", || place.run(&["status"]).stdout.contains(" in flight"));
    for (columns, rows) in [(80, 24), (160, 40), (60, 24)] {
        let mut terminal = Terminal::start(&place, (columns, rows), "status --watch", "");
        // The second look has rates.
        until("two looks", || terminal.shown().matches("\x1b[H").count() > 2);
        terminal.press(b"\x03");
        assert_eq!(terminal.end(), Some(0));
        let shown = terminal.shown();
        let view = shown.split("\x1b[H").nth(2).unwrap().split("\x1b[J").next().unwrap();
        let view = plain(view);
        let lines: Vec<_> = view.lines().collect();
        assert_eq!(lines.len(), usize::from(rows), "{view}");
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{widest}: {view}");
        let files = lines.iter().filter(|line| line.contains('[')).count();
        assert!(files >= usize::from(rows) / 4, "{view}");
        assert!(view.contains("  and ") && view.contains(" more\n"), "{view}");
        assert!(view.contains(": READY, up for "), "{view}");
        assert!(shown.contains("\x1b[1;32mTidemill "), "{shown:?}");
    }
    drop(running);
}

#[test]
fn the_keys_of_the_live_view_pause_resume_and_close() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let mut terminal = Terminal::start(&place, (80, 24), "status --watch", "");
    for (key, state) in [(b"p", ": PAUSED by the operator"), (b"r", ": READY, up for ")] {
        until("a look", || terminal.shown().contains("p: pause"));
        terminal.press(key);
        until(state, || place.run(&["status"]).stdout.contains(state));
    }
    terminal.press(b"q");
    assert_eq!(terminal.end(), Some(0));
    assert!(terminal.shown().trim_end().ends_with("\x1b[?25h\x1b[?1049l"));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_status_is_cut_at_the_edge_of_a_terminal_and_complete_elsewhere() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let terminal = Terminal::start(&place, (40, 24), "status", "");
    until("the status", || terminal.shown().contains("idle"));
    let shown = plain(&terminal.shown());
    assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
    let line = format!("main: {} → {}", place.input().display(), place.output().display());
    let piped = place.run(&["status"]).stdout;
    assert!(piped.contains(&line) && !piped.contains('\x1b'), "{piped:?}");
    assert!(!piped.contains(" 0 "), "what is zero is left out: {piped}");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn once_has_a_bar_on_a_terminal_and_none_elsewhere() {
    let place = TestDir::new();
    for number in 0..12 {
        place.put(format!("{number}"), "content".repeat(100));
    }
    let slow = "write=sleep(300)";
    let args = "run --config tidemill.toml --once";
    let mut terminal = Terminal::start(&place, (80, 24), args, slow);
    assert_eq!(terminal.end(), Some(0));
    until("the summary", || terminal.shown().contains("12 files published into out/ in "));
    let shown = plain(&terminal.shown());
    assert!(shown.contains("[####") && shown.contains("/12 files "), "{shown}");
    assert!(shown.contains(" % ") && shown.contains("B/s ETA "), "{shown}");
    place.put("more", "content");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("[####") && !ended.stderr.contains('\x1b'), "{ended:?}");
    assert!(ended.stderr.contains("1 file published into out/ in "), "{ended:?}");
    assert!(ended.stderr.contains(" file/s, ") || ended.stderr.contains(" files/s, "), "{ended:?}");
}
