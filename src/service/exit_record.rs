//! How the service ended, left in the state directory for those who wait for its end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{error::Exit, fs, limits};

const NAME: &str = "stopped.json";

/// The last end of a service with this state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, to the nanosecond: no two ends have the same.
    pub time: String,
    pub exit_code: i32,
    /// Files that were begun and not finished.
    pub left: u64,
}

impl Ended {
    pub fn now(exit: Exit, left: u64) -> Self {
        Self { time: jiff::Timestamp::now().to_string(), exit_code: exit.code(), left }
    }

    /// The last one, if it can be read.
    #[must_use]
    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state_dir.join(NAME)).ok()?).ok()
    }

    /// Writes it, and waits for that only as long as a disk that is well takes: one that hangs holds
    /// up no end.
    pub fn write(self, state_dir: PathBuf) -> io::Result<()> {
        let (done, is_done) = mpsc::channel();
        thread::Builder::new().name("ended".to_owned()).spawn(move || {
            let written = serde_json::to_vec(&self)
                .map_err(io::Error::other)
                .and_then(|text| fs::replace_own(&state_dir, NAME, &text));
            done.send(written).ok();
        })?;
        is_done.recv_timeout(limits::FORCED_STOP_LOG_WAIT).map_err(|_| io::ErrorKind::TimedOut)?
    }
}
