//! Settings of NICs that would hide from the program what it must see: turned off, remembered, restored.
//!
//! | feature | turned off | because otherwise |
//! |---|---|---|
//! | VLAN tags taken out on receipt | where a NIC carries VLANs | frames of a VLAN look like those of the NIC itself |
//! | LRO, hardware GRO | native | drivers refuse the program, or hand it what no NIC can send on |
//! | LRO, hardware GRO | generic | the kernel turns them off and not on again (generic_xdp_install, net/core/dev.c) |
//! | GRO | generic | the program is given packets that were joined, too long to be sent on by another NIC (xdp_ok_fwd_dev, include/linux/filter.h) |
//!
//! What was changed is kept in a file until it is restored, so that a director that is killed leaves it to the next.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
};

use aya::programs::XdpMode;
use serde::{Deserialize, Serialize};

use super::topology::Topology;
use crate::{
    net::{
        Link, NetError,
        ethtool::{Ethtool, GRO, GRO_HW, LRO, RX_SERVICE_VLAN, RX_VLAN},
    },
    preflight::path_in_run_dir,
};

/// What this director has turned off.
#[derive(Debug)]
pub struct Offloads {
    path: PathBuf,
    state: State,
    /// Features that stay on, as they were logged: by NIC and name.
    reported: BTreeSet<(u32, &'static str)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct State {
    /// The network namespace it is about: see [`crate::net::namespace_cookie`].
    namespace: u64,
    off: BTreeSet<Off>,
}

/// A feature that was on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
struct Off {
    ifindex: u32,
    interface: String,
    feature: String,
}

/// A NIC cannot be made to show what the program must see.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// A feature cannot be turned off.
    #[error(
        "the driver does not let VLAN tag stripping ({feature}) be turned off, so XDP does not see the tags it strips, in any mode: use another NIC, or an untagged port"
    )]
    Unchangeable {
        /// Its name for ethtool.
        feature: &'static str,
    },
    /// The driver reports success, and the setting is unchanged.
    #[error(transparent)]
    Net(#[from] NetError),
    /// What is changed cannot be remembered.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What must be off on a NIC.
struct Harmful {
    feature: &'static str,
    /// Nothing works if it stays on.
    fatal: bool,
}

impl Offloads {
    /// What a former daemon of this name has turned off in this network namespace and not restored; nothing, if that
    /// cannot be read.
    #[must_use]
    pub fn adopt(name: &str, namespace: u64) -> Self {
        let path = path_in_run_dir(name, "offloads.json");
        let former = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let state = former.filter(|state: &State| state.namespace == namespace);
        Self {
            path,
            state: state.unwrap_or(State {
                namespace,
                off: BTreeSet::new(),
            }),
            reported: BTreeSet::new(),
        }
    }

    /// Makes a NIC show all that the program must see in a mode; of a bond its members too.
    ///
    /// # Errors
    /// The NIC cannot do without a feature that hides it.
    pub fn disable_harmful(&mut self, topology: &Topology, nic: &Link, mode: XdpMode) -> Result<(), OffloadError> {
        let harmful = harmful(topology, nic.index, mode);
        let mut devices = std::iter::once(nic).chain(topology.members_of_bond(nic.index));
        devices.try_for_each(|device| self.turn_off(device, &harmful))
    }

    /// Turns features off on one device.
    fn turn_off(&mut self, nic: &Link, harmful: &[Harmful]) -> Result<(), OffloadError> {
        let ifindex = nic.index;
        let ethtool = Ethtool::of(&nic.name)?;
        for &Harmful { feature, fatal } in harmful {
            let Some(present) = ethtool.feature(feature)?.filter(|present| present.on) else {
                continue;
            };
            if !present.changeable {
                if fatal {
                    return Err(OffloadError::Unchangeable { feature });
                }
                if self.reported.insert((ifindex, feature)) {
                    tracing::warn!(
                        interface = nic.name,
                        feature,
                        "NIC feature stays on, [fixed] by the driver: {}",
                        consequence(feature)
                    );
                }
                continue;
            }
            self.state.off.insert(Off {
                ifindex,
                interface: nic.name.clone(),
                feature: feature.to_owned(),
            });
            self.save()?;
            match ethtool.set(feature, false) {
                Ok(()) => tracing::info!(interface = nic.name, feature, "NIC feature turned off until lbx stops"),
                Err(error) if fatal => return Err(error.into()),
                Err(error) => tracing::warn!(
                    interface = nic.name,
                    feature,
                    "NIC feature stays on, {}: {:#}",
                    consequence(feature),
                    anyhow::Error::from(error)
                ),
            }
        }
        Ok(())
    }

    /// Turns on again what was turned off on NICs that are not `kept`.
    pub fn restore(&mut self, kept: impl Fn(u32) -> bool) {
        let (kept, left): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut self.state.off)
            .into_iter()
            .partition(|off| kept(off.ifindex));
        self.state.off = kept;
        for Off { interface, feature, .. } in &left {
            match Ethtool::of(interface).and_then(|ethtool| ethtool.set(feature, true)) {
                Ok(()) => tracing::info!(interface, feature, "NIC feature turned on again"),
                Err(error) if error.errno() == Some(libc::ENODEV) => {}
                Err(error) => tracing::warn!(
                    interface,
                    feature,
                    "NIC feature stays off: {:#}",
                    anyhow::Error::from(error)
                ),
            }
        }
        if !left.is_empty()
            && let Err(error) = self.save()
        {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    fn save(&self) -> Result<(), OffloadError> {
        let saved = if self.state.off.is_empty() {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            serde_json::to_vec_pretty(&self.state)
                .map_err(io::Error::from)
                .and_then(|text| fs::write(&self.path, text))
        };
        saved.map_err(|source| OffloadError::File {
            path: self.path.clone(),
            source,
        })
    }
}

/// What follows if a feature stays on.
fn consequence(feature: &str) -> &'static str {
    match feature {
        RX_VLAN | RX_SERVICE_VLAN => "XDP does not see the VLAN tags that the NIC strips",
        _ => "packets that the NIC merges may be dropped",
    }
}

fn harmful(topology: &Topology, ifindex: u32, mode: XdpMode) -> Vec<Harmful> {
    let mut harmful = Vec::new();
    if topology.trunks.contains(&ifindex) {
        let serves_one = topology
            .segments
            .keys()
            .any(|segment| segment.ifindex == ifindex && segment.is_tagged());
        harmful.extend([RX_VLAN, RX_SERVICE_VLAN].map(|feature| Harmful {
            feature,
            fatal: serves_one,
        }));
    }
    let gro = matches!(mode, XdpMode::Skb).then_some(GRO);
    harmful.extend(
        [LRO, GRO_HW]
            .into_iter()
            .chain(gro)
            .map(|feature| Harmful { feature, fatal: false }),
    );
    harmful
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_by_nic_and_driver_is_turned_off_in_both_modes() {
        let features = |mode| {
            let harmful = harmful(&Topology::default(), 1, mode);
            assert!(harmful.iter().all(|harmful| !harmful.fatal));
            harmful.iter().map(|harmful| harmful.feature).collect::<Vec<_>>()
        };
        assert_eq!(features(XdpMode::Driver), ["rx-lro", "rx-gro-hw"]);
        assert_eq!(features(XdpMode::Skb), ["rx-lro", "rx-gro-hw", "rx-gro"]);
    }
}
