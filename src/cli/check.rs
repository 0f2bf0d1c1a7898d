//! `tidemill check`: the configuration as it is understood, or all that is wrong with it; with
//! `--probe`, what the file systems of its directories can do.

use super::{complain, print, report_problems};
use crate::{config, error::Exit, service};

pub fn check(options: &config::Options, probe: bool) -> Exit {
    match config::load(options) {
        Ok(config) => {
            print(&config.to_string());
            for note in config.notes() {
                complain(&format!("note: {note}"), Exit::Drained);
            }
            if !probe {
                return Exit::Drained;
            }
            let (text, exit) = service::probe::report(&config);
            print(&text);
            exit
        }
        Err(problems) => report_problems(&problems),
    }
}
