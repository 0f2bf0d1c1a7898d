//! `tidemill man` and `tidemill completions`: made from the definition of the options, for packages.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write,
    path::Path,
};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{args::Args, complain, print};
use crate::{config, error::Exit};

/// The manual: every page as a file of this directory, or the first page to the standard output.
pub fn man(dir: Option<&Path>) -> Exit {
    let made = match dir {
        Some(dir) => pages(dir).map_err(|error| format!("{}: {error}", dir.display())),
        None => page().map_err(|error| error.to_string()),
    };
    match made {
        Ok(()) => Exit::Drained,
        Err(error) => complain(&format!("error: cannot write the manual: {error}"), Exit::Config),
    }
}

fn pages(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)?;
    clap_mangen::generate_to(Args::command(), dir)?;
    let mut page = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(dir.join("tidemill.toml.5"))?;
    page.write_all(config::manual().as_bytes())
}

fn page() -> std::io::Result<()> {
    let mut text = Vec::new();
    // As the page in the directory, which names no `help` either.
    clap_mangen::Man::new(Args::command().disable_help_subcommand(true)).render(&mut text)?;
    print(&String::from_utf8_lossy(&text));
    Ok(())
}

/// The script that a shell completes the command line by.
pub fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "tidemill", &mut text);
    print(&String::from_utf8_lossy(&text));
    Exit::Drained
}
