use super::*;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 160));
const VIP6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x160));
const RIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 185));
const LO: u32 = 1;
const ETH0: u32 = 2;

fn values(arp_ignore: i32, arp_announce: i32, rp_filter: i32) -> Values {
    Values::from([
        (Key::ArpIgnore, arp_ignore),
        (Key::ArpAnnounce, arp_announce),
        (Key::RpFilter, rp_filter),
    ])
}

fn address(ifindex: u32, address: IpAddr, prefix_len: u8) -> InterfaceAddress {
    InterfaceAddress {
        ifindex,
        address,
        prefix_len,
        added_by_lbx: false,
    }
}

/// A host as it is before anything is done.
fn fresh() -> HostState {
    HostState {
        lo_ifindex: LO,
        lo_up: true,
        link_names: BTreeMap::from([(ETH0, "eth0".to_owned())]),
        arp_nics: vec!["eth0".into()],
        sysctls_by_nic: ["all", "lo", "eth0"]
            .map(|conf| (conf.to_owned(), values(0, 0, 0)))
            .into(),
        lo_ipv6_enabled: true,
        addresses: vec![address(ETH0, RIP, 24)],
        routes: vec![],
    }
}

/// A real server as an LVS script leaves it.
fn configured() -> HostState {
    let mut observed = fresh();
    for conf in ["all", "lo"] {
        observed.sysctls_by_nic.insert(conf.into(), values(1, 2, 0));
    }
    observed.addresses.push(address(LO, VIP, 32));
    observed.routes.push(TableRoute {
        destination: VIP,
        prefix_len: 32,
        ifindex: Some(LO),
        added_by_lbx: false,
    });
    observed
}

fn failing(observed: &HostState) -> Vec<String> {
    failing_of(observed, VIP)
}

fn failing_of(observed: &HostState, vip: IpAddr) -> Vec<String> {
    let findings = evaluate(observed, &BTreeSet::from([vip]));
    let failing = findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
    failing.map(|finding| finding.rule.clone()).collect()
}

/// The commands that applying the rules would carry out, each once.
fn commands(observed: &HostState) -> Vec<String> {
    commands_for(observed, VIP)
}

fn commands_for(observed: &HostState, vip: IpAddr) -> Vec<String> {
    let mut commands = Vec::new();
    for fix in evaluate(observed, &BTreeSet::from([vip]))
        .into_iter()
        .filter_map(|finding| finding.fix)
    {
        let command = fix.to_string();
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// Carries out what the rules ask for.
fn apply(observed: &mut HostState) {
    for fix in evaluate(observed, &BTreeSet::from([VIP]))
        .into_iter()
        .filter_map(|finding| finding.fix)
    {
        match fix {
            Fix::Sysctl(Setting {
                nic_or_all: conf,
                key,
                value,
            }) => {
                observed.sysctls_by_nic.get_mut(&conf).unwrap().insert(key, value);
            }
            Fix::Vip(vip) => observed.addresses.push(address(LO, vip, 32)),
            Fix::Route(vip) => observed.routes.push(TableRoute {
                destination: vip.into(),
                prefix_len: 32,
                ifindex: Some(LO),
                added_by_lbx: true,
            }),
            Fix::ManualCommand(_) => {}
        }
    }
}

#[test]
fn a_configured_real_server_has_nothing_to_mend() {
    assert_eq!(failing(&configured()), [""; 0]);
    assert_eq!(commands(&configured()), [""; 0]);
}

#[test]
fn a_fresh_host_is_made_quiet_before_it_gets_the_vip() {
    let expected = [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1",
        "sysctl -w net.ipv4.conf.lo.arp_ignore=1",
        "sysctl -w net.ipv4.conf.all.arp_announce=2",
        "sysctl -w net.ipv4.conf.lo.arp_announce=2",
        "ip addr add 192.168.1.160/32 dev lo",
        "ip route add 192.168.1.160/32 dev lo scope link",
    ];
    assert_eq!(commands(&fresh()), expected);
    let expected = [
        "arp_ignore on eth0",
        "arp_announce on eth0",
        "192.168.1.160/32 on lo",
        "route to 192.168.1.160/32 by lo",
    ];
    assert_eq!(failing(&fresh()), expected);
}

#[test]
fn whatever_the_values_were_applying_once_makes_the_rules_hold() {
    for all in 0..10 {
        for own in 0..10 {
            let mut observed = fresh();
            observed.sysctls_by_nic.insert("all".into(), values(all, all, 0));
            observed.sysctls_by_nic.insert("eth0".into(), values(own, own, 0));
            apply(&mut observed);
            assert_eq!(commands(&observed), [""; 0], "all={all} eth0={own}");
        }
    }
}

#[test]
fn a_stricter_value_stays() {
    for strict in [2, 8] {
        let mut observed = configured();
        observed.sysctls_by_nic.insert("all".into(), values(strict, 2, 0));
        assert_eq!(commands(&observed), [""; 0]);
        let mut observed = configured();
        observed.sysctls_by_nic.insert("eth0".into(), values(strict, 2, 0));
        assert_eq!(commands(&observed), [""; 0]);
    }
}

#[test]
fn a_nic_is_set_only_where_it_would_spoil_the_maximum() {
    let mut observed = configured();
    observed.sysctls_by_nic.insert("eth0".into(), values(3, 0, 0));
    assert_eq!(commands(&observed), ["sysctl -w net.ipv4.conf.eth0.arp_ignore=1"]);
    observed.sysctls_by_nic.insert("eth0".into(), values(0, 5, 0));
    assert_eq!(commands(&observed), ["sysctl -w net.ipv4.conf.eth0.arp_announce=2"]);
}

#[test]
fn a_nic_with_values_of_its_own_is_quiet_without_all() {
    let mut observed = configured();
    observed.sysctls_by_nic.insert("all".into(), values(0, 0, 0));
    observed.sysctls_by_nic.insert("eth0".into(), values(1, 2, 0));
    assert_eq!(failing(&observed), [""; 0]);
    // Yet a NIC that comes later would not be.
    let expected = [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1",
        "sysctl -w net.ipv4.conf.all.arp_announce=2",
    ];
    assert_eq!(commands(&observed), expected);
}

#[test]
fn conf_lo_alone_does_nothing_for_eth0() {
    let mut observed = configured();
    observed.sysctls_by_nic.insert("all".into(), values(0, 0, 0));
    assert_eq!(failing(&observed), ["arp_ignore on eth0", "arp_announce on eth0"]);
    let findings = evaluate(&observed, &BTreeSet::from([VIP]));
    let seen = &findings
        .iter()
        .find(|finding| finding.rule == "arp_ignore on eth0")
        .unwrap()
        .observed_state;
    assert_eq!(seen, "0 (all=0, eth0=0), answers ARP for the VIP");
}

#[test]
fn a_vip_on_a_nic_is_refused() {
    let mut observed = fresh();
    observed.addresses.push(address(ETH0, VIP, 24));
    observed.addresses.push(address(ETH0, VIP6, 128));
    for (vip, fix, how) in [
        (VIP, "ip addr del 192.168.1.160/24 dev eth0", "ARP"),
        (VIP6, "ip addr del 2001:db8::160/128 dev eth0", "neighbour discovery"),
    ] {
        let findings = evaluate(&observed, &BTreeSet::from([vip]));
        let blocking = findings.into_iter().find(Finding::is_blocking).unwrap();
        assert_eq!(blocking.vip, Some(vip));
        assert_eq!(blocking.fix.unwrap().to_string(), fix);
        assert!(blocking.observed_state.contains(how), "{}", blocking.observed_state);
    }
}

#[test]
fn a_vip_that_is_refused_blocks_no_other() {
    let mut observed = fresh();
    observed.addresses.push(address(ETH0, VIP, 24));
    let findings = evaluate(&observed, &BTreeSet::from([VIP, VIP6]));
    assert_eq!(blocked_vips(&findings), BTreeSet::from([VIP]));
}

#[test]
fn ipv6_needs_an_address_and_nothing_else() {
    let mut observed = fresh();
    assert_eq!(failing_of(&observed, VIP6), ["2001:db8::160/128 on lo"]);
    let expected = ["ip addr add 2001:db8::160/128 dev lo nodad preferred_lft 0"];
    assert_eq!(commands_for(&observed, VIP6), expected);
    observed.lo_ipv6_enabled = false;
    assert_eq!(
        blocked_vips(&evaluate(&observed, &BTreeSet::from([VIP6]))),
        BTreeSet::from([VIP6])
    );
    observed.lo_ipv6_enabled = true;
    observed.addresses.push(address(LO, VIP6, 128));
    assert_eq!(commands_for(&observed, VIP6), [""; 0]);
    // A wider prefix would lead the whole subnet here.
    observed.addresses.push(address(LO, VIP6, 64));
    assert_eq!(
        blocked_vips(&evaluate(&observed, &BTreeSet::from([VIP6]))),
        BTreeSet::from([VIP6])
    );
}

#[test]
fn a_vip_with_a_subnet_on_lo_is_refused() {
    let mut observed = configured();
    assert_eq!(
        blocked_vips(&evaluate(&observed, &BTreeSet::from([VIP]))),
        BTreeSet::new()
    );
    observed.addresses.push(address(LO, VIP, 24));
    assert_eq!(
        blocked_vips(&evaluate(&observed, &BTreeSet::from([VIP]))),
        BTreeSet::from([VIP])
    );
}

#[test]
fn the_broadcast_address_of_a_subnet_is_no_vip() {
    let observed = fresh();
    let broadcast = IpAddr::from([192, 168, 1, 255]);
    let elsewhere = IpAddr::from([192, 168, 2, 255]);
    assert_eq!(
        blocked_vips(&evaluate(&observed, &BTreeSet::from([broadcast, elsewhere]))),
        BTreeSet::from([broadcast])
    );
}

#[test]
fn nothing_goes_on_a_loopback_that_is_down() {
    let mut observed = fresh();
    observed.lo_up = false;
    assert!(
        evaluate(&observed, &BTreeSet::from([VIP]))
            .iter()
            .any(Finding::is_blocking)
    );
}

#[test]
fn strict_rp_filter_is_advised_against_with_several_nics_only() {
    let mut observed = configured();
    observed.sysctls_by_nic.insert("eth0".into(), values(0, 0, 1));
    assert_eq!(strict_rp_filter(&observed), []);

    observed.arp_nics.push("eth1".into());
    observed.sysctls_by_nic.insert("eth1".into(), values(0, 0, 2));
    let notes = strict_rp_filter(&observed);
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].verdict, Verdict::Note);
    assert_eq!(notes[0].rule, "rp_filter on eth0");

    // Loose on all overrides strict on one.
    observed.sysctls_by_nic.insert("all".into(), values(1, 2, 2));
    assert_eq!(strict_rp_filter(&observed), []);
}
