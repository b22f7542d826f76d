//! What has to hold on a real server, judged from what was observed.

use std::{
    cmp::max,
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use self::vip::Places;
use super::sysctl::{Key, Setting, Values};
use crate::net::{InterfaceAddress, TableRoute};

mod vip;

/// What the network and the sysctls of this host are like.
#[derive(Clone, Debug, Default)]
pub struct HostState {
    /// Index of `lo`.
    pub lo_ifindex: u32,
    /// Whether `lo` is up; while it is down no address on it is the host's.
    pub lo_up: bool,
    /// All links but `lo`, by index.
    pub link_names: BTreeMap<u32, String>,
    /// Those of them where ARP can arrive: up, with a MAC.
    pub arp_nics: Vec<String>,
    /// Sysctls of `all`, `lo` and the NICs.
    pub sysctls_by_nic: BTreeMap<String, Values>,
    /// Whether `lo` takes IPv6 addresses.
    pub lo_ipv6_enabled: bool,
    /// All addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// IPv4 routes of the main table that lead to `lo`.
    pub routes: Vec<TableRoute>,
}

/// A rule, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub verdict: Verdict,
    /// The VIP it is about; none: all of them.
    pub vip: Option<IpAddr>,
    /// What has to hold.
    pub rule: String,
    /// What was seen, and how it comes about.
    pub observed_state: String,
    /// What makes it hold; none where it does.
    pub fix: Option<Fix>,
}

impl Finding {
    /// That the rule is not met: what was seen instead, and the fix.
    #[must_use]
    pub fn violation(&self) -> String {
        let Self {
            rule,
            observed_state,
            fix,
            ..
        } = self;
        let fix = fix.as_ref().map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
        format!("{rule}: not met, {observed_state}{fix}")
    }
}

/// Whether a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Ok,
    /// It does not, and nothing fails by that.
    Note,
    /// It does not.
    Fail,
}

/// What makes a rule hold. Displayed as the command that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Write a sysctl.
    Sysctl(Setting),
    /// Put the VIP on lo.
    Vip(IpAddr),
    /// Add the host route.
    Route(Ipv4Addr),
    /// A command that is the operator's to decide on.
    ManualCommand(String),
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(setting) => write!(f, "sysctl -w {setting}"),
            Self::Vip(IpAddr::V4(vip)) => write!(f, "ip addr add {vip}/32 dev lo"),
            Self::Vip(IpAddr::V6(vip)) => write!(f, "ip addr add {vip}/128 dev lo nodad preferred_lft 0"),
            Self::Route(vip) => write!(f, "ip route add {vip}/32 dev lo scope link"),
            Self::ManualCommand(command) => f.write_str(command),
        }
    }
}

impl Finding {
    fn ok(rule: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            vip: None,
            rule: rule.into(),
            observed_state: seen.into(),
            fix: None,
        }
    }

    fn not(verdict: Verdict, rule: impl Into<String>, seen: impl Into<String>, fix: Fix) -> Self {
        Self {
            verdict,
            vip: None,
            rule: rule.into(),
            observed_state: seen.into(),
            fix: Some(fix),
        }
    }

    fn about(self, vip: IpAddr) -> Self {
        Self { vip: Some(vip), ..self }
    }

    /// Whether applying the rules, for this VIP or all, has to stop here because only the operator can decide.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        self.verdict == Verdict::Fail && matches!(self.fix, Some(Fix::ManualCommand(_)))
    }
}

/// What the kernel goes by where an ARP packet arrives at or leaves by a NIC, and for rp_filter: the greater of the two
/// (IN_DEV_MAXCONF in include/linux/inetdevice.h). `conf/lo` alone changes nothing for other NICs.
#[must_use]
pub fn effective_sysctl_value(all: i32, nic: i32) -> i32 {
    max(all, nic)
}

/// The value to set where another one does not keep the VIP quiet, as every LVS script has it.
#[must_use]
pub const fn required_sysctl_value(key: Key) -> i32 {
    match key {
        Key::ArpIgnore => 1,
        Key::ArpAnnounce => 2,
        Key::RpFilter => 0,
    }
}

/// Whether a value keeps the VIP out of ARP (arp_ignore() and arp_solicit() in net/ipv4/arp.c). A greater value is not
/// always a stricter one: arp_ignore=3 answers for a global address of any NIC, 4 to 7 are as 0, and an unknown
/// arp_announce is as 0.
#[must_use]
pub const fn suppresses_arp(key: Key, value: i32) -> bool {
    match key {
        // 1: only addresses of the NIC where it arrives; 2: and from its subnet; 8: nothing at all.
        Key::ArpIgnore => matches!(value, 1 | 2 | 8),
        Key::ArpAnnounce => value == 2,
        Key::RpFilter => true,
    }
}

/// Judges every rule, in the order in which they have to be made to hold: ARP is quiet before the VIP is there, or the
/// host would answer for it for a moment.
///
/// Neighbour discovery needs no quieting. A solicitation is answered for an address of the NIC where it arrives and no
/// other (ndisc_recv_ns in net/ipv6/ndisc.c asks for the address on that device), the group that is asked for the VIP is
/// joined on lo alone, and solicitations go out from an address of the NIC they leave by (ndisc_solicit).
#[must_use]
pub fn evaluate(observed: &HostState, vips: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if vips.iter().any(IpAddr::is_ipv4) {
        for key in [Key::ArpIgnore, Key::ArpAnnounce] {
            findings.extend(["all", "lo"].map(|conf| arp_of_conf(observed, key, conf)));
            findings.extend(
                observed
                    .arp_nics
                    .iter()
                    .filter_map(|nic| arp_of_nic(observed, key, nic)),
            );
        }
    }
    findings.push(if observed.lo_up {
        Finding::ok("lo up", "it is")
    } else {
        Finding::not(Verdict::Fail, "lo up", "it is down", lo_up())
    });
    let places = Places::of(observed);
    findings.extend(vips.iter().flat_map(|&vip| places.judge(vip)));
    findings.extend(strict_rp_filter(observed));
    findings
}

/// The VIPs that only the operator can make ready: the others do not wait for them.
#[must_use]
pub fn blocked_vips(findings: &[Finding]) -> BTreeSet<IpAddr> {
    let blocking = findings.iter().filter(|finding| finding.is_blocking());
    blocking.filter_map(|finding| finding.vip).collect()
}

fn lo_up() -> Fix {
    Fix::ManualCommand("ip link set lo up".into())
}

fn value(observed: &HostState, conf: &str, key: Key) -> Option<i32> {
    observed.sysctls_by_nic.get(conf)?.get(&key).copied()
}

/// `all` makes the rule hold for NICs that come later; `lo` is set as LVS scripts do, though no ARP arrives there. What
/// counts today is judged by NIC, so neither is a failure by itself.
fn arp_of_conf(observed: &HostState, key: Key, conf: &str) -> Finding {
    let seen = value(observed, conf, key).unwrap_or_default();
    let rule = format!("{key} of {conf}");
    if suppresses_arp(key, seen) {
        return Finding::ok(rule, seen.to_string());
    }
    Finding::not(Verdict::Note, rule, seen.to_string(), set(key, conf))
}

fn arp_of_nic(observed: &HostState, key: Key, nic: &str) -> Option<Finding> {
    let all = value(observed, "all", key).unwrap_or_default();
    let own = value(observed, nic, key)?;
    let effective_now = effective_sysctl_value(all, own);
    let rule = format!("{key} on {nic}");
    let seen = format!("{effective_now} (all={all}, {nic}={own})");
    if suppresses_arp(key, effective_now) {
        let nothing = key == Key::ArpIgnore && effective_now == 8;
        let remark = if nothing {
            ", answers no ARP at all, not even for its own address"
        } else {
            ""
        };
        return Some(Finding::ok(rule, seen + remark));
    }
    // With `all` set, a NIC needs a value of its own only where its present one would spoil the maximum.
    let all_then = if suppresses_arp(key, all) {
        all
    } else {
        required_sysctl_value(key)
    };
    let conf = if suppresses_arp(key, effective_sysctl_value(all_then, own)) {
        "all"
    } else {
        nic
    };
    let consequence = match key {
        Key::ArpIgnore => "answers ARP for the VIP",
        _ => "may ask ARP from the VIP and so announce it",
    };
    Some(Finding::not(
        Verdict::Fail,
        rule,
        format!("{seen}, {consequence}"),
        set(key, conf),
    ))
}

fn set(key: Key, conf: &str) -> Fix {
    Fix::Sysctl(Setting {
        nic_or_all: conf.to_owned(),
        key,
        value: required_sysctl_value(key),
    })
}

/// With several NICs a client's packet may come in by another one than leads back to it: strict filtering drops it.
fn strict_rp_filter(observed: &HostState) -> Vec<Finding> {
    if observed.arp_nics.len() < 2 {
        return Vec::new();
    }
    let all = value(observed, "all", Key::RpFilter).unwrap_or_default();
    let judge = |nic: &String| {
        let own = value(observed, nic, Key::RpFilter)?;
        let strict = effective_sysctl_value(all, own) == 1;
        strict.then(|| {
            let seen = format!("1 (all={all}, {nic}={own}), strict: drops packets that arrive by another NIC than their return route uses");
            let loose = Setting {
                nic_or_all: nic.clone(),
                key: Key::RpFilter,
                value: 2,
            };
            let fix = Fix::ManualCommand(format!("sysctl -w {loose}"));
            Finding::not(Verdict::Note, format!("{} on {nic}", Key::RpFilter), seen, fix)
        })
    };
    observed.arp_nics.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests;
