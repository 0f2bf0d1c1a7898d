//! The record of the last exit, in the state directory for processes that wait for the exit.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{error::Exit, fs, limits};

const NAME: &str = "stopped.json";

/// The last exit of a service with this state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Time of the exit, to the nanosecond: it identifies the exit.
    pub time: String,
    pub exit_code: i32,
    /// Number of unfinished files.
    pub unfinished: u64,
}

impl ExitRecord {
    pub fn now(exit: Exit, unfinished: u64) -> Self {
        Self { time: jiff::Timestamp::now().to_string(), exit_code: exit.code(), unfinished }
    }

    /// Reads the record, if there is a readable one.
    #[must_use]
    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state_dir.join(NAME)).ok()?).ok()
    }

    /// Writes the record. Waits at most [`limits::FORCED_STOP_LOG_WAIT`], so that a hanging disk
    /// does not delay the exit.
    pub fn write(self, state_dir: PathBuf) -> io::Result<()> {
        let (result, written) = mpsc::channel();
        thread::Builder::new().name("exit record".to_owned()).spawn(move || {
            let outcome = serde_json::to_vec(&self)
                .map_err(io::Error::other)
                .and_then(|text| fs::replace_own(&state_dir, NAME, &text));
            result.send(outcome).ok();
        })?;
        written.recv_timeout(limits::FORCED_STOP_LOG_WAIT).map_err(|_| io::ErrorKind::TimedOut)?
    }
}
