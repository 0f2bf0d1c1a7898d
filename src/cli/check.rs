//! `tidemill check`: the configuration as it is understood, or all that is wrong with it.

use super::{complain, print, refuse};
use crate::{config, error::Exit};

pub fn check(options: &config::Options) -> Exit {
    match config::load(options) {
        Ok(config) => {
            print(&config.to_string());
            for note in config.notes() {
                complain(&format!("note: {note}"), Exit::Drained);
            }
            Exit::Drained
        }
        Err(problems) => refuse(&problems),
    }
}
