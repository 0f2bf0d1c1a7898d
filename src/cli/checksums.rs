//! `tidemill checksums`: the SHA-256 digests of the published outputs, as `sha256sum -c` reads them.

use std::path::PathBuf;

use super::{args::Checksums, notify, print_bytes, state_dir::locate};
use crate::{
    error::Exit,
    ledger::{self, Access},
    observe::units::files,
    queries::{checksums, explain},
};

pub fn checksums(options: &Checksums) -> anyhow::Result<Exit> {
    let state = locate(&options.service, options.paths.first().map(PathBuf::as_path))?;
    let ledger = ledger::open(&state.ledger(), Access::Reading)?;
    let wanted = options.paths.iter().map(|path| explain::real(path));
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let current = std::env::current_dir().and_then(|dir| dir.canonicalize()).ok();
    let without =
        checksums::each_line(&*ledger, (&wanted, current.as_deref()), |line| print_bytes(&line))?;
    if without > 0 {
        let verb = if without == 1 { "has" } else { "have" };
        notify(&format!("{} {verb} no checksum: published without `checksum`", files(without)));
    }
    Ok(Exit::Success)
}
