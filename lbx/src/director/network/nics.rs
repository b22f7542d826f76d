//! The program on the NICs, native or generic on each.
//!
//! A frame that a native program redirects must leave by a NIC that takes it natively, while a generic program redirects to any. So
//! a NIC that cannot run native programs makes those generic that send to it.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::XdpMode;
use lbx_common::{
    backend::VlanTags,
    nic::{CLIENT_FACING, Nic},
};

use nix::net::if_::if_indextoname;

use super::{
    offloads::{OffloadError, Offloads},
    segment::Segment,
    topology::{NativeObstacle, SegmentRole, Topology},
    xdp_advice::with_advice,
};
use crate::{
    dataplane::{
        Dataplane, DataplaneError,
        attach::{AttachError, AttachOutcome},
    },
    desired::AttachMode,
    net::{Link, link::XdpAttachment},
};

/// A NIC cannot be attached to.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}{}", program_id.map(|id| format!(" (XDP program id {id})")).unwrap_or_default())]
pub struct NicError {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// The foreign program, where that is known.
    pub program_id: Option<u32>,
    /// Why.
    #[source]
    pub source: NicErrorKind,
}

/// Why a NIC cannot be attached to.
#[derive(Debug, thiserror::Error)]
pub enum NicErrorKind {
    /// The program cannot be on it.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The program would not see what it must.
    #[error(transparent)]
    Offload(#[from] OffloadError),
    /// A native program would lose frames there.
    #[error(transparent)]
    NativeXdp(#[from] NativeObstacle),
}

/// Attaches the program to every NIC of the topology. What this call attached is detached again if it fails.
///
/// # Errors
/// A NIC refuses in every mode that the configuration allows.
pub fn attach(
    dataplane: &mut Dataplane,
    offloads: &mut Offloads,
    topology: &mut Topology,
    mode: AttachMode,
) -> Result<(), NicError> {
    let attached = attach_in_mode(dataplane, offloads, topology, mode);
    dataplane.stop_dropping_vip_packets();
    attached
}

fn attach_in_mode(
    dataplane: &mut Dataplane,
    offloads: &mut Offloads,
    topology: &mut Topology,
    mode: AttachMode,
) -> Result<(), NicError> {
    let mut former = FormerModes::new();
    let attached = detach_other_modes(dataplane, topology, mode, &mut former).and_then(|()| match mode {
        AttachMode::Auto => attach_auto(dataplane, offloads, topology, &mut former),
        AttachMode::Native => match native_obstacle(topology) {
            Some(obstacle) => Err(obstacle),
            None => attach_all(dataplane, offloads, topology, &BTreeSet::new()),
        },
        AttachMode::Generic => {
            let all = topology.nics.keys().copied().collect();
            attach_all(dataplane, offloads, topology, &all)
        }
    });
    if attached.is_err() {
        attach_again(dataplane, topology, former);
    }
    attached
}

/// The modes of NICs whose link was ended because its mode is to change.
type FormerModes = BTreeMap<u32, XdpMode>;

/// Attaches NICs as they were: a mode that cannot be had must not cost the one there was.
fn attach_again(dataplane: &mut Dataplane, topology: &Topology, former: FormerModes) {
    for (ifindex, mode) in former {
        if let Err(error) = dataplane.attach(ifindex, None, mode) {
            tracing::error!(
                interface = topology.nics.get(&ifindex).map(|nic| nic.name.as_str()),
                "cannot re-attach the XDP program; clients' packets on this NIC reach this host's own stack: {:#}",
                anyhow::Error::from(error)
            );
        }
    }
}

/// Attaches natively where that is possible. What has become generic stays so.
fn attach_auto(
    dataplane: &mut Dataplane,
    offloads: &mut Offloads,
    topology: &mut Topology,
    former: &mut FormerModes,
) -> Result<(), NicError> {
    let mut generic = adopted_generic(dataplane, topology)?;
    for (&ifindex, obstacle) in &topology.native_obstacles {
        if let Some(nic) = topology.nics.get(&ifindex)
            && generic.insert(ifindex)
        {
            log_generic(&nic.name, obstacle);
        }
    }
    loop {
        for (ifindex, egress) in topology.redirecting_to(&generic) {
            if let (Some(nic), Some(egress)) = (topology.nics.get(&ifindex), topology.nics.get(&egress)) {
                let reason = format!(
                    "packets for real servers behind {} leave by it, and it runs in generic mode",
                    egress.name
                );
                log_generic(&nic.name, &reason);
            }
            generic.insert(ifindex);
        }
        detach_to_change_mode(dataplane, topology, former, |ifindex, native| {
            native && generic.contains(&ifindex)
        })?;
        match attach_all(dataplane, offloads, topology, &generic) {
            Err(NicError {
                ifindex,
                interface,
                source: NicErrorKind::Attach(AttachError::Unsupported(reason)),
                ..
            }) if generic.insert(ifindex) => log_generic(&interface, &reason),
            attached => return attached,
        }
    }
}

fn log_generic(interface: &str, reason: &dyn std::fmt::Display) {
    tracing::warn!(interface, %reason, "no native XDP: {interface} runs the program in generic mode, which is slower");
}

/// A NIC on which a native program would lose frames.
fn native_obstacle(topology: &Topology) -> Option<NicError> {
    let (&ifindex, &obstacle) = topology.native_obstacles.first_key_value()?;
    let nic = topology.nics.get(&ifindex)?;
    Some(NicError {
        ifindex,
        interface: nic.name.clone(),
        program_id: None,
        source: obstacle.into(),
    })
}

/// Attaches the program to every NIC of the topology that takes it, and leaves the others out of the topology; says why.
///
/// # Errors
/// It is no NIC's fault: nothing is left out for that.
pub fn attach_usable(
    dataplane: &mut Dataplane,
    offloads: &mut Offloads,
    topology: &mut Topology,
    mode: AttachMode,
) -> Result<Vec<NicError>, NicError> {
    let mut refused = Vec::new();
    loop {
        match attach(dataplane, offloads, topology, mode) {
            Ok(()) => return Ok(refused),
            Err(error) if matches!(error.source, NicErrorKind::Attach(AttachError::Dataplane(_))) => return Err(error),
            Err(error) => {
                topology.exclude(error.ifindex);
                refused.push(error);
            }
        }
    }
}

/// Loads the roles of all segments into the program. Before this, the program passes everything.
///
/// # Errors
/// There are too many segments.
pub fn set_roles(dataplane: &mut Dataplane, topology: &Topology) -> Result<(), DataplaneError> {
    // Clients' segments first: the program finds them sooner.
    let segments = topology.segments.iter();
    let (clients, servers): (Vec<_>, Vec<_>) = segments.partition(|(_, role)| role.roles & CLIENT_FACING != 0);
    let nics: Vec<_> = clients
        .into_iter()
        .chain(servers)
        .flat_map(|(segment, role)| entries(topology, segment, role))
        .collect();
    dataplane.retain_nics(&nics)?;
    nics.into_iter().try_for_each(|nic| dataplane.set_nic(nic))
}

/// The name of a device, or what says which it was.
#[must_use]
pub fn interface_name(topology: &Topology, ifindex: u32) -> String {
    match topology.nics.get(&ifindex) {
        Some(nic) => nic.name.clone(),
        None => if_indextoname(ifindex).map_or_else(
            |_gone| format!("interface {ifindex}"),
            |name| name.to_string_lossy().into_owned(),
        ),
    }
}

/// The NICs that clients' frames arrive on, as the program knows them; bonds without their members.
#[must_use]
pub fn client_nics(topology: &Topology) -> Vec<Nic> {
    let segments = topology.segments.iter();
    let clients = segments.filter(|(_, role)| role.roles & CLIENT_FACING != 0);
    let entries = clients.flat_map(|(segment, role)| entries(topology, segment, role));
    entries.filter(|nic| topology.nics.contains_key(&nic.ifindex)).collect()
}

/// A segment's NIC, and its members first where it is a bond.
fn entries(topology: &Topology, segment: &Segment, role: &SegmentRole) -> Vec<Nic> {
    let [outer, inner] = segment.vlan_tags;
    let entry = |ifindex, mac| Nic {
        mac,
        roles: role.roles,
        ifindex,
        vlan_tags: VlanTags { outer, inner },
    };
    let members = topology.members_of_bond(segment.ifindex).iter();
    // With `fail_over_mac active` frames are addressed to the active member, whose address the bond takes over a moment later.
    let bond = topology.nics.get(&segment.ifindex).map(|nic| nic.mac);
    let own = |member: &Link| {
        if bond == Some(role.device.mac) {
            member.mac
        } else {
            role.device.mac
        }
    };
    let mut entries: Vec<_> = members.map(|member| entry(member.index, own(member))).collect();
    entries.push(entry(segment.ifindex, role.device.mac));
    entries
}

/// Leaves NICs that the topology no longer has.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach_others(dataplane: &mut Dataplane, topology: &Topology) -> Result<(), DataplaneError> {
    for ifindex in dataplane.attached_nics()? {
        if !topology.nics.contains_key(&ifindex) {
            dataplane.remove_nic(ifindex)?;
            dataplane.detach(ifindex)?;
        }
    }
    Ok(())
}

/// Ends links in a mode that the configuration no longer allows.
fn detach_other_modes(
    dataplane: &mut Dataplane,
    topology: &Topology,
    mode: AttachMode,
    former: &mut FormerModes,
) -> Result<(), NicError> {
    detach_to_change_mode(dataplane, topology, former, |_, native| match mode {
        AttachMode::Native => !native,
        AttachMode::Generic => native,
        AttachMode::Auto => false,
    })
}

/// Ends links whose mode is to change, chosen by their NIC and whether they are native, and keeps in `former` in what mode they were
/// first. Until a NIC is attached again, what it receives for VIPs is dropped and not refused by the host.
fn detach_to_change_mode(
    dataplane: &mut Dataplane,
    topology: &Topology,
    former: &mut FormerModes,
    is_to_change: impl Fn(u32, bool) -> bool,
) -> Result<(), NicError> {
    for (&ifindex, nic) in held(dataplane, topology)? {
        let native = nic.xdp.is_some_and(|xdp| xdp.native);
        if !is_to_change(ifindex, native) {
            continue;
        }
        if let Err(error) = dataplane.drop_vip_packets(ifindex) {
            tracing::warn!(
                interface = nic.name,
                "connections may be refused for a moment while the XDP mode changes: {:#}",
                anyhow::Error::from(error)
            );
        }
        detach(dataplane, ifindex, topology)?;
        let mode = if native { XdpMode::Driver } else { XdpMode::Skb };
        former.entry(ifindex).or_insert(mode);
    }
    Ok(())
}

/// The NICs that run the program in generic mode already, maybe since a former daemon.
fn adopted_generic(dataplane: &Dataplane, topology: &Topology) -> Result<BTreeSet<u32>, NicError> {
    let held = held(dataplane, topology)?.into_iter();
    let generic = held.filter(|(_, nic)| nic.xdp.is_some_and(|xdp| !xdp.native));
    Ok(generic.map(|(&ifindex, _)| ifindex).collect())
}

/// Attaches to all NICs: in generic mode to those of `generic`, natively to the others.
fn attach_all(
    dataplane: &mut Dataplane,
    offloads: &mut Offloads,
    topology: &mut Topology,
    generic: &BTreeSet<u32>,
) -> Result<(), NicError> {
    let mut new = Vec::new();
    for (&ifindex, nic) in &topology.nics {
        let mode = if generic.contains(&ifindex) {
            XdpMode::Skb
        } else {
            XdpMode::Driver
        };
        let running = nic.xdp.map(|xdp| xdp.program_id);
        let settled = offloads
            .disable_harmful(topology, nic, mode)
            .map_err(NicErrorKind::from);
        match settled.and_then(|()| Ok(dataplane.attach(ifindex, running, mode)?)) {
            Ok(AttachOutcome::NewLink { program }) => new.push((ifindex, program)),
            Ok(AttachOutcome::ExistingLink) => {}
            Err(source) => {
                for (ifindex, _) in new {
                    detach(dataplane, ifindex, topology)?;
                }
                let source = match source {
                    NicErrorKind::Attach(refusal) => with_advice(refusal, mode, topology, nic).into(),
                    other => other,
                };
                let foreign = matches!(source, NicErrorKind::Attach(AttachError::ForeignProgram));
                return Err(NicError {
                    ifindex,
                    interface: nic.name.clone(),
                    program_id: nic.xdp.filter(|_| foreign).map(|xdp| xdp.program_id),
                    source,
                });
            }
        }
    }
    // Or who looks at this topology again would take the NICs for what they were.
    for (ifindex, program) in new {
        if let Some(nic) = topology.nics.get_mut(&ifindex) {
            nic.xdp = Some(XdpAttachment {
                native: !generic.contains(&ifindex),
                program_id: program,
            });
        }
    }
    Ok(())
}

/// The NICs that run a program of this director.
fn held<'t>(dataplane: &Dataplane, topology: &'t Topology) -> Result<Vec<(&'t u32, &'t Link)>, NicError> {
    let mut held = Vec::new();
    for (ifindex, nic) in &topology.nics {
        let running = nic.xdp.map(|xdp| xdp.program_id);
        let holds = dataplane.is_attached(*ifindex, running);
        if holds.map_err(|error| about(topology, *ifindex, error))? {
            held.push((ifindex, nic));
        }
    }
    Ok(held)
}

fn detach(dataplane: &mut Dataplane, ifindex: u32, topology: &Topology) -> Result<(), NicError> {
    dataplane
        .detach(ifindex)
        .map_err(|error| about(topology, ifindex, error))
}

fn about(topology: &Topology, ifindex: u32, error: DataplaneError) -> NicError {
    NicError {
        ifindex,
        interface: topology
            .nics
            .get(&ifindex)
            .map_or_else(String::new, |nic| nic.name.clone()),
        program_id: None,
        source: AttachError::from(error).into(),
    }
}
