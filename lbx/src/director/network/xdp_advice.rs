//! The refusal of a native program by a driver, with what the driver needs.

use aya::programs::XdpMode;

use super::topology::Topology;
use crate::{
    dataplane::attach::AttachError,
    net::{
        Link, NetError,
        ethtool::{self, Ethtool},
        xdp_drivers::{self, NicState},
    },
};

/// A driver's refusal of a native program, with the command that gives the driver what it needs, where that is known. Of a bond the
/// drivers of its members refuse.
pub fn with_advice(refusal: AttachError, mode: XdpMode, topology: &Topology, nic: &Link) -> AttachError {
    let (AttachError::Unsupported(reason), XdpMode::Driver) = (&refusal, mode) else {
        return refusal;
    };
    let devices = std::iter::once(nic).chain(topology.members_of_bond(nic.index));
    let advice = devices.filter_map(|device| advice(device, reason).ok().flatten());
    let advice: String = advice.map(|advice| format!("; {advice}")).collect();
    AttachError::Unsupported(format!("{reason}{advice}"))
}

/// What the driver of a device needs for a native program.
fn advice(device: &Link, refusal: &str) -> Result<Option<String>, NetError> {
    let ethtool = Ethtool::of(&device.name)?;
    let is_on = |feature| {
        ethtool
            .feature(feature)
            .ok()
            .flatten()
            .is_some_and(|present| present.on)
    };
    Ok(xdp_drivers::advice(&NicState {
        interface: &device.name,
        driver: &ethtool.driver()?,
        refusal,
        mtu: device.mtu,
        channels: ethtool.channels().ok(),
        lro: is_on(ethtool::LRO),
        gro_hw: is_on(ethtool::GRO_HW),
    }))
}
