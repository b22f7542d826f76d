//! What has to hold on a real server, judged from what was observed.

use std::{cmp::max, collections::BTreeMap, fmt, net::IpAddr};

use super::sysctl::{Key, Setting, Values};
use crate::net::{Address, TableRoute};

/// What the network and the sysctls of this host are like.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Index of `lo`.
    pub lo: u32,
    /// Whether `lo` is up; while it is down no address on it is the host's.
    pub lo_up: bool,
    /// All links but `lo`, by index.
    pub links: BTreeMap<u32, String>,
    /// Those of them where ARP can arrive: up, with a MAC.
    pub nics: Vec<String>,
    /// Sysctls of `all`, `lo` and the NICs.
    pub conf: BTreeMap<String, Values>,
    /// All IPv4 addresses.
    pub addresses: Vec<Address>,
    /// Routes of the main table that lead to `lo`.
    pub routes: Vec<TableRoute>,
}

/// A rule, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub verdict: Verdict,
    /// What has to hold.
    pub rule: String,
    /// What was seen, and how it comes about.
    pub seen: String,
    /// What makes it hold; none where it does.
    pub mend: Option<Mend>,
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
pub enum Mend {
    /// Write a sysctl.
    Sysctl(Setting),
    /// Put the VIP on lo.
    Vip(IpAddr),
    /// Add the host route.
    Route(IpAddr),
    /// A command that is the operator's to decide on.
    Operator(String),
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(setting) => write!(f, "sysctl -w {setting}"),
            Self::Vip(vip) => write!(f, "ip addr add {vip}/32 dev lo"),
            Self::Route(vip) => write!(f, "ip route add {vip}/32 dev lo scope link"),
            Self::Operator(command) => f.write_str(command),
        }
    }
}

impl Finding {
    fn ok(rule: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            rule: rule.into(),
            seen: seen.into(),
            mend: None,
        }
    }

    fn not(verdict: Verdict, rule: impl Into<String>, seen: impl Into<String>, mend: Mend) -> Self {
        Self {
            verdict,
            rule: rule.into(),
            seen: seen.into(),
            mend: Some(mend),
        }
    }

    /// Whether applying the rules has to stop here because only the operator can decide.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        self.verdict == Verdict::Fail && matches!(self.mend, Some(Mend::Operator(_)))
    }
}

/// What the kernel goes by where an ARP packet arrives at or leaves by a NIC, and for rp_filter: the greater of the two
/// (IN_DEV_MAXCONF in include/linux/inetdevice.h). `conf/lo` alone changes nothing for other NICs.
#[must_use]
pub fn effective(all: i32, nic: i32) -> i32 {
    max(all, nic)
}

/// The value to set where another one does not keep the VIP quiet, as every LVS script has it.
#[must_use]
pub const fn wanted(key: Key) -> i32 {
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
pub const fn keeps_quiet(key: Key, value: i32) -> bool {
    match key {
        // 1: only addresses of the NIC where it arrives; 2: and from its subnet; 8: nothing at all.
        Key::ArpIgnore => matches!(value, 1 | 2 | 8),
        Key::ArpAnnounce => value == 2,
        Key::RpFilter => true,
    }
}

/// Judges every rule, in the order in which they have to be made to hold: ARP is quiet before the VIP is there, or the
/// host would answer for it for a moment.
#[must_use]
pub fn evaluate(observed: &Observed, vips: &[IpAddr]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in [Key::ArpIgnore, Key::ArpAnnounce] {
        findings.extend(["all", "lo"].map(|conf| arp_of_conf(observed, key, conf)));
        findings.extend(observed.nics.iter().filter_map(|nic| arp_of_nic(observed, key, nic)));
    }
    findings.push(if observed.lo_up {
        Finding::ok("lo up", "it is")
    } else {
        Finding::not(Verdict::Fail, "lo up", "it is down", lo_up())
    });
    for &vip in vips {
        findings.push(not_elsewhere(observed, vip));
        findings.push(vip_on_lo(observed, vip));
        findings.push(host_route(observed, vip));
    }
    findings.extend(strict_rp_filter(observed));
    findings
}

fn lo_up() -> Mend {
    Mend::Operator("ip link set lo up".into())
}

fn value(observed: &Observed, conf: &str, key: Key) -> Option<i32> {
    observed.conf.get(conf)?.get(&key).copied()
}

/// `all` makes the rule hold for NICs that come later; `lo` is set as LVS scripts do, though no ARP arrives there. What
/// counts today is judged by NIC, so neither is a failure by itself.
fn arp_of_conf(observed: &Observed, key: Key, conf: &str) -> Finding {
    let seen = value(observed, conf, key).unwrap_or_default();
    let rule = format!("{key} of {conf}");
    if keeps_quiet(key, seen) {
        return Finding::ok(rule, seen.to_string());
    }
    Finding::not(Verdict::Note, rule, seen.to_string(), set(key, conf))
}

fn arp_of_nic(observed: &Observed, key: Key, nic: &str) -> Option<Finding> {
    let all = value(observed, "all", key).unwrap_or_default();
    let own = value(observed, nic, key)?;
    let effective_now = effective(all, own);
    let rule = format!("{key} on {nic}");
    let seen = format!("{effective_now} (all={all}, {nic}={own})");
    if keeps_quiet(key, effective_now) {
        let nothing = key == Key::ArpIgnore && effective_now == 8;
        let remark = if nothing {
            ", answers no ARP at all, not even for its own address"
        } else {
            ""
        };
        return Some(Finding::ok(rule, seen + remark));
    }
    // With `all` set, a NIC needs a value of its own only where its present one would spoil the maximum.
    let all_then = if keeps_quiet(key, all) { all } else { wanted(key) };
    let conf = if keeps_quiet(key, effective(all_then, own)) {
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

fn set(key: Key, conf: &str) -> Mend {
    Mend::Sysctl(Setting {
        conf: conf.to_owned(),
        key,
        value: wanted(key),
    })
}

/// A VIP on another NIC than lo is answered for there whatever arp_ignore says, and with a wider prefix than /32 on lo
/// every address of the subnet would become this host's own.
fn not_elsewhere(observed: &Observed, vip: IpAddr) -> Finding {
    let rule = format!("{vip} on no NIC but lo");
    for address in &observed.addresses {
        let Address { prefix_len, .. } = *address;
        let nic = match observed.links.get(&address.ifindex) {
            Some(nic) => nic.as_str(),
            None if address.ifindex == observed.lo => "lo",
            None => continue,
        };
        let fault = if nic != "lo" && address.address == vip {
            format!("it is on {nic}, where this host answers ARP for it (is it the director?)")
        } else if nic == "lo" && address.address == vip && prefix_len != 32 {
            format!("it is on lo as /{prefix_len}, which makes this whole subnet the host's own")
        } else if nic != "lo" && is_subnet_broadcast(address, vip) {
            let mend = Mend::Operator("choose another VIP".into());
            let seen = format!(
                "it is the broadcast address of {}/{prefix_len} on {nic}",
                address.address
            );
            return Finding::not(Verdict::Fail, rule, seen, mend);
        } else {
            continue;
        };
        let mend = Mend::Operator(format!("ip addr del {vip}/{prefix_len} dev {nic}"));
        return Finding::not(Verdict::Fail, rule, fault, mend);
    }
    Finding::ok(rule, "on none")
}

fn is_subnet_broadcast(address: &Address, vip: IpAddr) -> bool {
    let (IpAddr::V4(own), IpAddr::V4(vip)) = (address.address, vip) else {
        return false;
    };
    let host_bits = u32::MAX.checked_shr(address.prefix_len.into()).unwrap_or_default();
    address.prefix_len < 31 && vip.to_bits() == own.to_bits() | host_bits
}

fn vip_on_lo(observed: &Observed, vip: IpAddr) -> Finding {
    let rule = format!("{vip}/32 on lo");
    let present =
        |address: &&Address| address.ifindex == observed.lo && address.address == vip && address.prefix_len == 32;
    match observed.addresses.iter().find(present) {
        Some(_) => Finding::ok(rule, "present"),
        None => Finding::not(Verdict::Fail, rule, "missing", Mend::Vip(vip)),
    }
}

fn host_route(observed: &Observed, vip: IpAddr) -> Finding {
    let rule = format!("route to {vip}/32 by lo");
    if observed
        .routes
        .iter()
        .any(|route| route.is_host_route(observed.lo, vip))
    {
        return Finding::ok(rule, "present");
    }
    // The kernel takes no route by a link that is down.
    let mend = if observed.lo_up { Mend::Route(vip) } else { lo_up() };
    Finding::not(Verdict::Fail, rule, "missing", mend)
}

/// With several NICs a client's packet may come in by another one than leads back to it: strict filtering drops it.
fn strict_rp_filter(observed: &Observed) -> Vec<Finding> {
    if observed.nics.len() < 2 {
        return Vec::new();
    }
    let all = value(observed, "all", Key::RpFilter).unwrap_or_default();
    let judge = |nic: &String| {
        let own = value(observed, nic, Key::RpFilter)?;
        let strict = effective(all, own) == 1;
        strict.then(|| {
            let seen = format!("1 (all={all}, {nic}={own}), drops what comes in by another NIC than leads back");
            let loose = Setting {
                conf: nic.clone(),
                key: Key::RpFilter,
                value: 2,
            };
            let mend = Mend::Operator(format!("sysctl -w {loose}"));
            Finding::not(Verdict::Note, format!("{} on {nic}", Key::RpFilter), seen, mend)
        })
    };
    observed.nics.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests;
