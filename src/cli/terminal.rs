//! The terminal: its size, its colours, and the screen and the keys of the live view.

use std::{
    io::{IsTerminal, Read, Write, stdin, stdout},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::print;

/// Takes the screen, hides the cursor, and cuts lines at the edge instead of wrapping them.
const ENTER: &str = "\x1b[?7l\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Moves to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line, and of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";
/// The size where the terminal reports none.
const DEFAULT: Window = Window { columns: 80, rows: 24 };

/// The size of a window, in letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub columns: usize,
    pub rows: usize,
}

/// Returns the size of the terminal; none where the standard output is no terminal.
pub fn window() -> Option<Window> {
    if !stdout().is_terminal() {
        return None;
    }
    let size = tcgetwinsize(stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Some(size.map_or(DEFAULT, |size| Window {
        columns: usize::from(size.ws_col),
        rows: usize::from(size.ws_row),
    }))
}

/// Whether the standard output takes colours: a terminal does, unless `NO_COLOR` is set.
pub fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && stdout().is_terminal()
}

/// The screen of the view. Dropping it restores the terminal.
pub struct Screen;

impl Screen {
    pub fn enter() -> Self {
        print(ENTER);
        Self
    }
}

/// Replaces the content of the screen, without a flicker.
pub fn show(lines: &[String]) {
    let text: String = lines.join(&format!("{CLEAR_LINE}\r\n"));
    print(&format!("{HOME}{text}{CLEAR_LINE}{CLEAR_REST}"));
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(LEAVE);
        drop(stdout().flush());
    }
}

/// The keys that are pressed, each at once and without an echo. Dropping it restores the terminal.
#[derive(Debug)]
pub struct Keys {
    pressed: mpsc::UnboundedReceiver<u8>,
    /// None where the standard input is no terminal.
    before: Option<Termios>,
}

impl Keys {
    pub fn read() -> Self {
        let (send, pressed) = mpsc::unbounded_channel();
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut now = before.clone();
            now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(stdin(), OptionalActions::Now, &now).ok();
            // It ends with the process.
            let reading = move || {
                for key in stdin().lock().bytes().map_while(Result::ok) {
                    if send.send(key).is_err() {
                        return;
                    }
                }
            };
            drop(thread::Builder::new().name("keys".to_owned()).spawn(reading));
        }
        Self { pressed, before }
    }

    /// Waits for the next key; indefinitely where there is none.
    pub async fn next(&mut self) -> u8 {
        match self.pressed.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            tcsetattr(stdin(), OptionalActions::Now, before).ok();
        }
    }
}

/// At most this many letters; `…` stands for the rest.
pub fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

/// At most this many letters of a path: its end, which distinguishes it from others.
pub fn end_of(path: &str, columns: usize) -> String {
    let count = path.chars().count();
    if count <= columns {
        return path.to_owned();
    }
    let kept: String = path.chars().skip(count - columns.saturating_sub(1)).collect();
    format!("…{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_keeps_its_begin_and_a_cut_path_its_end() {
        assert_eq!((cut("abcdef", 6), cut("abcdef", 4)), ("abcdef".into(), "abc…".into()));
        assert_eq!((end_of("abcdef", 6), end_of("abcdef", 4)), ("abcdef".into(), "…def".into()));
        assert_eq!((cut("abc", 0), end_of("abc", 0)), ("…".into(), "…".into()));
    }
}
