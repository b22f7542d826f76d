use super::*;

const COMBINED: Channels = Channels {
    max_rx: 0,
    max_tx: 0,
    max_combined: 8,
    rx: 0,
    tx: 0,
    combined: 8,
};

fn nic(driver: &str) -> NicState<'_> {
    NicState {
        interface: "eth0",
        driver,
        refusal: "MTU too large to enable XDP",
        mtu: 1500,
        channels: None,
        lro: false,
        gro_hw: false,
    }
}

fn of(nic: &NicState<'_>) -> String {
    advice(nic).unwrap_or_default()
}

#[test]
fn an_unknown_driver_gets_no_advice() {
    assert_eq!(advice(&nic("e1000")), None);
    assert_eq!(advice(&nic("")), None);
}

#[test]
fn a_large_mtu_is_named_with_its_limit() {
    let limits = [
        ("virtio_net", 3506),
        ("ena", 3498),
        ("ixgbe", 3050),
        ("i40e", 3046),
        ("ice", 3046),
        ("hv_netvsc", 3506),
        ("vmxnet3", 3492),
        ("gve", 2032),
    ];
    for (driver, limit) in limits {
        let at = |mtu| of(&NicState { mtu, ..nic(driver) });
        let command = format!("`ip link set dev eth0 mtu {limit}`");
        assert!(at(limit + 1).contains(&command), "{driver}: {}", at(limit + 1));
        assert!(!at(limit).contains("mtu"), "{driver}: {}", at(limit));
    }
    // Only these limit what is left with frames in several buffers.
    let jumbo = |driver| {
        of(&NicState {
            mtu: 9000,
            ..nic(driver)
        })
    };
    assert!(jumbo("mlx5_core").contains("--set-priv-flags eth0 rx_striding_rq off"));
    assert!(!jumbo("bnxt_en").contains("mtu"));
}

#[test]
fn merging_is_turned_off_by_name() {
    for driver in ["ixgbe", "mlx5_core", "hv_netvsc", "gve"] {
        let lro = NicState {
            lro: true,
            ..nic(driver)
        };
        assert!(
            of(&lro).contains("with lro on: `ethtool -K eth0 lro off`"),
            "{}",
            of(&lro)
        );
        let both = NicState { gro_hw: true, ..lro };
        assert!(
            of(&both).contains("`ethtool -K eth0 lro off rx-gro-hw off`"),
            "{}",
            of(&both)
        );
    }
}

#[test]
fn queues_are_halved_where_xdp_needs_as_many() {
    let with = |driver, channels| {
        of(&NicState {
            channels: Some(channels),
            ..nic(driver)
        })
    };
    let few = Channels {
        combined: 4,
        ..COMBINED
    };
    assert_eq!(
        with("ena", COMBINED),
        "ena needs as many queues for XDP as are in use, and 8 of 8 are: `ethtool -L eth0 combined 4`"
    );
    assert_eq!(with("ena", few), "", "its queues are few enough");
    assert!(with("bnxt_en", COMBINED).contains("`ethtool -L eth0 combined 4`"));
    let separate = Channels {
        max_combined: 8,
        rx: 4,
        tx: 4,
        ..Channels::default()
    };
    assert!(with("bnxt_en", separate).contains("`ethtool -L eth0 rx 0 tx 0 combined 4`"));
    let ice = NicState {
        refusal: "Not enough Tx resources for XDP",
        channels: Some(COMBINED),
        mtu: 9000,
        ..nic("ice")
    };
    assert!(
        of(&ice).contains("`ethtool -L eth0 combined 4`") && !of(&ice).contains("mtu"),
        "{}",
        of(&ice)
    );
    let gve = |rx, tx| {
        let channels = Channels {
            max_rx: 16,
            max_tx: 16,
            rx,
            tx,
            ..Channels::default()
        };
        with("gve", channels)
    };
    assert!(gve(16, 16).contains("and 16 of 16 are: `ethtool -L eth0 rx 8 tx 8`"));
    assert!(gve(8, 4).contains("`ethtool -L eth0 rx 4 tx 4`"));
    assert!(gve(8, 8).contains("GQI_QPL"), "nothing to see in its settings");
    let veth = |rx| {
        let channels = Channels {
            max_rx: 4,
            rx,
            ..Channels::default()
        };
        with("veth", channels)
    };
    assert!(veth(1).ends_with("`ethtool -L eth0 rx 4`"), "{}", veth(1));
    assert!(veth(4).contains("PEER"), "{}", veth(4));
}

#[test]
fn what_settings_do_not_show_is_said_where_they_show_nothing() {
    for (driver, word) in [
        ("virtio_net", "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS"),
        ("ixgbe", "SR-IOV"),
        ("ice", "DDP"),
        ("mlx5_core", "dmesg"),
        ("vmxnet3", "6.6"),
        ("bnxt_en", "dmesg"),
        ("gve", "GQI_QPL"),
    ] {
        assert!(of(&nic(driver)).contains(word), "{driver}: {}", of(&nic(driver)));
    }
    assert_eq!(advice(&nic("ena")), None);
    let header = NicState {
        refusal: "XDP expects header/data in single page, any_header_sg required",
        mtu: 9000,
        ..nic("virtio_net")
    };
    assert!(
        of(&header).ends_with("VIRTIO_F_VERSION_1 or VIRTIO_F_ANY_LAYOUT"),
        "{}",
        of(&header)
    );
}
