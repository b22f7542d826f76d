//! What drivers need for a native XDP program, and the command that gives it to them: they refuse with a few words, with an error
//! number alone, or with words in the kernel's log.
//!
//! Facts are from the kernel's sources (Linux 6.12 and 6.1, below drivers/net). MTU limits are those of x86-64: pages of 4,096
//! bytes, `XDP_PACKET_HEADROOM` of 256, and 320 for `struct skb_shared_info`. lbx's program takes frames in several buffers
//! (`xdp.frags`), so that limits for programs that do not are none where a driver knows that.

use super::ethtool::Channels;

/// What is known of a NIC whose driver refuses.
#[derive(Clone, Copy, Debug)]
pub struct NicState<'n> {
    /// Its name.
    pub interface: &'n str,
    /// Its driver, as `ethtool -i` names it.
    pub driver: &'n str,
    /// The kernel's words for the refusal; with some drivers an error number alone.
    pub refusal: &'n str,
    /// Its MTU.
    pub mtu: u32,
    /// Its queues, where the driver says.
    pub channels: Option<Channels>,
    /// Whether LRO is on.
    pub lro: bool,
    /// Whether the NIC merges packets itself (`rx-gro-hw`).
    pub gro_hw: bool,
}

/// What may be done so that the driver takes a native program: what its settings show to be in the way or, where they show
/// nothing, what else the driver needs. None for drivers that are not known here.
#[must_use]
pub fn advice(nic: &NicState<'_>) -> Option<String> {
    let (found, otherwise) = match nic.driver {
        "virtio_net" => virtio_net(nic),
        "ena" => ena(nic),
        "ixgbe" => ixgbe(nic),
        "i40e" => i40e(nic),
        "ice" => ice(nic),
        "mlx5_core" => mlx5(nic),
        "hv_netvsc" => hv_netvsc(nic),
        "vmxnet3" => vmxnet3(nic),
        "bnxt_en" => bnxt(nic),
        "gve" => gve(nic),
        "veth" => veth(nic),
        _ => return None,
    };
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return otherwise.map(str::to_owned);
    }
    Some(found.join("; "))
}

/// What is found in a NIC's settings, and what to say if that is nothing.
type Advice = (Vec<Option<String>>, Option<&'static str>);

impl NicState<'_> {
    fn mtu_above(&self, limit: u32) -> Option<String> {
        let Self {
            interface, driver, mtu, ..
        } = self;
        (*mtu > limit).then(|| {
            format!(
                "{driver} takes XDP up to MTU {limit}, and this is {mtu}: `ip link set dev {interface} mtu {limit}`"
            )
        })
    }

    /// Whether the driver says that it is the MTU, where a program with frames in several buffers may have a larger one.
    fn says_mtu(&self) -> bool {
        self.refusal.to_ascii_lowercase().contains("mtu")
    }

    /// LRO or hardware GRO that could not be turned off.
    fn merging(&self) -> Option<String> {
        let features = [(self.lro, "lro"), (self.gro_hw, "rx-gro-hw")];
        let on: Vec<_> = features.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        (!on.is_empty()).then(|| {
            let (driver, interface) = (self.driver, self.interface);
            let off: String = on.iter().map(|name| format!(" {name} off")).collect();
            format!(
                "{driver} takes no XDP with {} on: `ethtool -K {interface}{off}`",
                on.join(" and ")
            )
        })
    }

    /// More queues in use than half of those there are, where each needs another one for XDP.
    fn more_than_half(&self, used: u32, max: u32, arguments: impl Fn(u32) -> String) -> Option<String> {
        let half = max / 2;
        (used > half && half > 0).then(|| {
            let (driver, interface) = (self.driver, self.interface);
            format!(
                "{driver} needs as many queues for XDP as are in use, and {used} of {max} are: `ethtool -L {interface} {}`",
                arguments(half)
            )
        })
    }
}

/// `virtnet_xdp_set` in virtio_net.c. Too few queues are no reason to refuse: XDP then sends with locks. In 6.1 the MTU is limited
/// for every program.
fn virtio_net(nic: &NicState<'_>) -> Advice {
    let of_host = if nic.refusal.contains("any_header_sg") {
        "virtio_net takes XDP from hosts that offer VIRTIO_F_VERSION_1 or VIRTIO_F_ANY_LAYOUT"
    } else {
        "virtio_net takes no XDP where the host merges packets or leaves checksums out and the guest cannot stop it: have the host \
         offer VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, or none of VIRTIO_NET_F_GUEST_TSO4, TSO6, ECN, UFO, USO4, USO6 and CSUM"
    };
    let mtu = nic.mtu_above(3506).filter(|_| nic.says_mtu());
    (vec![mtu], Some(of_host))
}

/// `ena_xdp_allowed` and `ENA_XDP_MAX_MTU` in ethernet/amazon/ena/ena_xdp.h.
fn ena(nic: &NicState<'_>) -> Advice {
    let queues = nic.channels.and_then(|channels| {
        nic.more_than_half(channels.combined, channels.max_combined, |half| {
            format!("combined {half}")
        })
    });
    (vec![nic.mtu_above(3498), queues], None)
}

/// `ixgbe_xdp_setup` in ethernet/intel/ixgbe/ixgbe_main.c: `-EINVAL` without words; buffers of 3,072 bytes at most
/// (`ixgbe_rx_bufsz`), and `-ENOMEM` with more than 128 CPUs (`IXGBE_MAX_XDP_QS`).
fn ixgbe(nic: &NicState<'_>) -> Advice {
    (
        vec![nic.mtu_above(3050), nic.merging()],
        Some(
            "ixgbe takes no XDP with SR-IOV (`echo 0 >/sys/class/net/NIC/device/sriov_numvfs`), with DCB, or with more than 128 CPUs",
        ),
    )
}

/// `i40e_xdp_setup` in ethernet/intel/i40e/i40e_main.c, where the program may have frames in several buffers; in 6.1 it may not.
fn i40e(nic: &NicState<'_>) -> Advice {
    (vec![nic.mtu_above(3046).filter(|_| nic.says_mtu())], None)
}

/// `ice_xdp_setup_prog`, `ice_vsi_determine_xdp_res` and `ice_xdp_safe_mode` in ethernet/intel/ice/ice_main.c.
fn ice(nic: &NicState<'_>) -> Advice {
    let is_short = |channels: &Channels| channels.combined > 1 && nic.refusal.contains("Tx resources");
    let queues = nic.channels.filter(is_short).map(|channels| {
        format!(
            "ice needs a free transmit queue for every second CPU: `ethtool -L {} combined {}` frees some",
            nic.interface,
            channels.combined / 2
        )
    });
    (
        vec![nic.mtu_above(3046).filter(|_| nic.says_mtu()), queues],
        Some("ice needs free transmit queues, and its DDP firmware package (without it the driver runs in safe mode)"),
    )
}

/// `mlx5e_xdp_allowed` and `mlx5e_params_validate_xdp` in ethernet/mellanox/mlx5/core/en_main.c: the words are in the kernel's log.
fn mlx5(nic: &NicState<'_>) -> Advice {
    let striding = (nic.mtu > 3498).then(|| {
        format!(
            "mlx5_core takes no XDP with striding receive queues and a large MTU: `ethtool --set-priv-flags {0} rx_striding_rq off`, or \
             `ip link set dev {0} mtu 3498`",
            nic.interface
        )
    });
    (
        vec![nic.merging(), striding],
        Some("mlx5_core says the reason in the kernel's log: `dmesg`"),
    )
}

/// `netvsc_xdp_set` in hyperv/netvsc_bpf.c: one page holds headroom, frame and `skb_shared_info`.
fn hv_netvsc(nic: &NicState<'_>) -> Advice {
    (vec![nic.mtu_above(3506), nic.merging()], None)
}

/// `vmxnet3_xdp_set` in vmxnet3/vmxnet3_xdp.c, and `VMXNET3_XDP_MAX_MTU`; there is none in 6.1.
fn vmxnet3(nic: &NicState<'_>) -> Advice {
    (vec![nic.mtu_above(3492)], Some("vmxnet3 has XDP from Linux 6.6 on"))
}

/// `bnxt_xdp_set` in ethernet/broadcom/bnxt/bnxt_xdp.c: the words are in the kernel's log.
fn bnxt(nic: &NicState<'_>) -> Advice {
    let Some(channels) = nic.channels else {
        return (Vec::new(), Some("bnxt_en says the reason in the kernel's log: `dmesg`"));
    };
    let separate = (channels.combined == 0 && channels.max_combined > 0).then(|| {
        format!(
            "bnxt_en takes XDP with combined queues alone: `ethtool -L {} rx 0 tx 0 combined {}`",
            nic.interface,
            channels.rx.clamp(1, channels.max_combined.div_ceil(2))
        )
    });
    let queues = nic.more_than_half(channels.combined, channels.max_combined, |half| {
        format!("combined {half}")
    });
    (
        vec![separate, queues],
        Some(
            "bnxt_en needs a transmit ring for XDP for each receive ring: fewer queues, `ethtool -L`; `dmesg` says more",
        ),
    )
}

/// `verify_xdp_configuration` in ethernet/google/gve/gve_main.c: the words are in the kernel's log. There is none in 6.1.
fn gve(nic: &NicState<'_>) -> Advice {
    let queues = nic.channels.and_then(|channels| {
        let used = channels.rx.max(channels.tx);
        let both = |queues: u32| format!("rx {queues} tx {queues}");
        let unequal = (channels.rx != channels.tx).then(|| {
            let queues = channels.rx.min(channels.tx);
            format!(
                "gve takes XDP with as many queues to receive as to send: `ethtool -L {} {}`",
                nic.interface,
                both(queues)
            )
        });
        nic.more_than_half(used, channels.max_tx, both).or(unequal)
    });
    (
        vec![nic.mtu_above(2032), nic.merging(), queues],
        Some("gve has XDP with the queue format GQI_QPL alone, and none in Linux 6.1"),
    )
}

/// `veth_xdp_set` in veth.c: as many queues to receive as the other end has to send.
fn veth(nic: &NicState<'_>) -> Advice {
    let queues = nic
        .channels
        .filter(|channels| channels.rx < channels.max_rx)
        .map(|channels| {
            format!(
                "veth needs as many queues to receive as its other end has to send: `ethtool -L {} rx {}`",
                nic.interface, channels.max_rx
            )
        });
    (
        vec![queues],
        Some("veth needs as many queues to receive as its other end has to send: fewer there, `ethtool -L PEER tx 1`"),
    )
}

#[cfg(test)]
mod tests;
