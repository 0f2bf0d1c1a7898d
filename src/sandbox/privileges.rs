//! Capabilities (`capabilities(7)`): the service keeps only those that it needs.

use std::io;

use rustix::{
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// Largest possible capability number.
const CAPABILITY_MAX: u32 = 63;
/// Capabilities for files of other users: read them, remove their names, set owner, mode and times of
/// outputs, detect writers.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::LEASE);

/// The retained capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedCaps {
    pub is_root: bool,
    capabilities: CapabilitySet,
}

/// Drops every capability that files of other users do not need, and prevents the process from gaining
/// any: with `no_new_privs` no set-user-id program adds privileges.
///
/// `low_port`: whether the service listens on a port below 1024.
pub fn drop_privileges(low_port: bool) -> io::Result<RetainedCaps> {
    set_no_new_privs(true)?;
    let current = capabilities(None)?;
    let mut retained = FILE_CAPABILITIES;
    // A user other than root may have the capability to read alone; root's override includes it.
    if !current.permitted.contains(CapabilitySet::DAC_OVERRIDE) {
        retained |= CapabilitySet::DAC_READ_SEARCH;
    }
    if low_port {
        retained |= CapabilitySet::NET_BIND_SERVICE;
    }
    if current.effective.contains(CapabilitySet::SETPCAP) {
        limit_bounding_set(retained)?;
    }
    clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: current.effective & retained,
        permitted: current.permitted & retained,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    Ok(RetainedCaps { is_root: geteuid().is_root(), capabilities: sets.effective })
}

/// Removes all other capabilities from the bounding set, which limits programs run later.
fn limit_bounding_set(retained: CapabilitySet) -> io::Result<()> {
    for number in 0..=CAPABILITY_MAX {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !retained.contains(capability) => {
                remove_capability_from_bounding_set(capability)?;
            }
            Ok(_) => {}
            // The kernel has no further capabilities.
            Err(_) => break,
        }
    }
    Ok(())
}

impl RetainedCaps {
    /// Returns the names of `capabilities(7)`; empty if none is retained.
    #[must_use]
    pub fn names(&self) -> String {
        let names = self.capabilities.iter_names().map(|(name, _)| format!("CAP_{name}"));
        names.collect::<Vec<_>>().join(" ")
    }
}
