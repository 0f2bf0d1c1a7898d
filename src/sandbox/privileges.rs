//! Capabilities (`capabilities(7)`): what is left of root.

use std::io;

use rustix::{
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// The last capability number that a kernel may know.
const LAST: u32 = 63;
/// What a service needs for files of other users: read them and remove their names, give outputs
/// their owner, mode and times, ask who writes them.
const FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::LEASE);

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedCaps {
    pub is_root: bool,
    capabilities: CapabilitySet,
}

/// Gives up every capability that files of other users do not need, and the way to any more:
/// `no_new_privs` holds for every user, so that no set-user-id program could be of use.
///
/// `low_port`: a port below 1024 is to be listened at.
pub fn drop_privileges(low_port: bool) -> io::Result<RetainedCaps> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    let mut wanted = FILES;
    // Reading alone may have been given to a user that is not root; root's override includes it.
    if !held.permitted.contains(CapabilitySet::DAC_OVERRIDE) {
        wanted |= CapabilitySet::DAC_READ_SEARCH;
    }
    if low_port {
        wanted |= CapabilitySet::NET_BIND_SERVICE;
    }
    if held.effective.contains(CapabilitySet::SETPCAP) {
        bound(wanted)?;
    }
    clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: held.effective & wanted,
        permitted: held.permitted & wanted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    Ok(RetainedCaps { is_root: geteuid().is_root(), capabilities: sets.effective })
}

/// Leaves no other capability within reach of anything that is run later.
fn bound(wanted: CapabilitySet) -> io::Result<()> {
    for number in 0..=LAST {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !wanted.contains(one) => remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            // The kernel knows no more of them.
            Err(_) => break,
        }
    }
    Ok(())
}

impl RetainedCaps {
    /// In the words of `capabilities(7)`; empty where none is left.
    #[must_use]
    pub fn names(&self) -> String {
        let names = self.capabilities.iter_names().map(|(name, _)| format!("CAP_{name}"));
        names.collect::<Vec<_>>().join(" ")
    }
}
