//! Rules of netfilter that match a destination address, as `nft --json list ruleset` (libnftables-json(5)) and
//! `iptables-legacy-save` print them.
//!
//! Rules of the families `arp` and `bridge` see other packets than those that XDP takes from a NIC, and are left out. What the
//! programs print as an extension (`-m set`, and `xt` in JSON) is not looked into.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
};

use serde_json::Value;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetfilterRule {
    /// What it is known by: of nftables family, table, chain and handle, of iptables table, chain and number.
    pub name: String,
    /// The destinations that it compares with.
    destinations: Vec<RangeInclusive<IpAddr>>,
}

impl NetfilterRule {
    /// Whether an address is among those that the rule compares the destination with, for equal or for not equal.
    #[must_use]
    pub fn names(&self, address: IpAddr) -> bool {
        self.destinations.iter().any(|range| range.contains(&address))
    }
}

/// The rules with destinations in what `nft --json list ruleset` has printed. Chains of the family `netdev` count where they are on
/// one of `nics`: those are passed by after XDP.
///
/// # Errors
/// It is no JSON.
pub fn nftables_rules(json: &[u8], nics: &BTreeSet<String>) -> Result<Vec<NetfilterRule>, serde_json::Error> {
    let ruleset: Value = serde_json::from_slice(json)?;
    let objects: Vec<&Value> = ruleset["nftables"].as_array().into_iter().flatten().collect();
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let sets: Sets<'_> = of("set")
        .chain(of("map"))
        .map(|set| (table_and(set, "name"), &set["elem"]))
        .collect();
    let foreign: BTreeSet<_> = of("chain")
        .filter(|chain| chain["family"] == "netdev" && !is_on(&chain["dev"], nics))
        .map(|chain| table_and(chain, "name"))
        .collect();
    let rules = of("rule")
        .filter(|rule| rule["family"] != "arp" && rule["family"] != "bridge")
        .filter(|rule| !foreign.contains(&table_and(rule, "chain")));
    let with_destinations = rules.filter_map(|rule| {
        let expressions = rule["expr"].as_array()?;
        let destinations: Vec<_> = expressions
            .iter()
            .flat_map(|expression| destinations(expression, rule, &sets))
            .collect();
        let [family, table, chain] = table_and(rule, "chain");
        (!destinations.is_empty()).then(|| NetfilterRule {
            name: format!("{family} {table} {chain} handle {}", rule["handle"]),
            destinations,
        })
    });
    Ok(with_destinations.collect())
}

/// Elements of sets and maps, by family, table and name.
type Sets<'r> = HashMap<[&'r str; 3], &'r Value>;

fn table_and<'r>(object: &'r Value, name: &str) -> [&'r str; 3] {
    ["family", "table", name].map(|key| object[key].as_str().unwrap_or_default())
}

/// Whether the device of a chain, or one of them, is a NIC with the program.
fn is_on(devices: &Value, nics: &BTreeSet<String>) -> bool {
    let mut names = match devices {
        Value::Array(names) => names.iter().collect(),
        name => vec![name],
    }
    .into_iter()
    .filter_map(Value::as_str);
    names.any(|name| nics.contains(name))
}

/// The destinations that an expression of a rule compares with.
fn destinations(expression: &Value, rule: &Value, sets: &Sets<'_>) -> Vec<RangeInclusive<IpAddr>> {
    let comparison = &expression["match"];
    let lookup = &expression["vmap"];
    let (left, right) = match (comparison.get("left"), lookup.get("key")) {
        (Some(left), _) => (left, &comparison["right"]),
        (None, Some(key)) => (key, &lookup["data"]),
        (None, None) => return Vec::new(),
    };
    let Some(position) = destination_position(left) else {
        return Vec::new();
    };
    let elements: Vec<&Value> = match right {
        Value::String(name) if name.starts_with('@') => {
            let [family, table, _] = table_and(rule, "chain");
            let elements = sets.get(&[family, table, &name[1..]]);
            elements
                .and_then(|elements| elements.as_array())
                .into_iter()
                .flatten()
                .collect()
        }
        operand => match operand["set"].as_array() {
            Some(elements) => elements.iter().collect(),
            None => vec![operand],
        },
    };
    elements
        .into_iter()
        .filter_map(|element| address_range(component(element, position)?))
        .collect()
}

/// Where the destination address stands in what a rule compares: alone, or at an index of a concatenation.
fn destination_position(left: &Value) -> Option<Option<usize>> {
    if is_destination(left) {
        return Some(None);
    }
    let parts = left["concat"].as_array()?;
    parts.iter().position(is_destination).map(Some)
}

fn is_destination(part: &Value) -> bool {
    let payload = &part["payload"];
    let of_packet = matches!(payload["protocol"].as_str(), Some("ip" | "ip6")) && payload["field"] == "daddr";
    let conntrack = &part["ct"];
    let of_connection =
        matches!(conntrack["key"].as_str(), Some("ip daddr" | "ip6 daddr" | "daddr")) && conntrack["dir"] == "original";
    of_packet || of_connection
}

/// The part of a set's element at an index of a concatenation, or all of it. Elements of maps are pairs of key and value, and
/// those with a timeout or comment stand one level lower.
fn component(element: &Value, index: Option<usize>) -> Option<&Value> {
    let key = element.as_array().map_or(Some(element), |pair| pair.first())?;
    let key = key.get("elem").map_or(key, |with_timeout| &with_timeout["val"]);
    match index {
        None => Some(key),
        Some(index) => key["concat"].get(index),
    }
}

fn address_range(value: &Value) -> Option<RangeInclusive<IpAddr>> {
    if let Some(address) = address(value) {
        return Some(address..=address);
    }
    if let Some([first, last]) = value["range"].as_array().map(Vec::as_slice) {
        return Some(address(first)?..=address(last)?);
    }
    let prefix = value.get("prefix")?;
    network(address(&prefix["addr"])?, u32::try_from(prefix["len"].as_u64()?).ok()?)
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// The addresses of a network.
fn network(address: IpAddr, length: u32) -> Option<RangeInclusive<IpAddr>> {
    match address {
        IpAddr::V4(address) => {
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            (length <= 32).then(|| IpAddr::V4(first.into())..=IpAddr::V4((first | hosts).into()))
        }
        IpAddr::V6(address) => {
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            (length <= 128).then(|| IpAddr::V6(first.into())..=IpAddr::V6((first | hosts).into()))
        }
    }
}

/// The rules with destinations in what `iptables-legacy-save` or `ip6tables-legacy-save` has printed.
#[must_use]
pub fn iptables_rules(saved: &str) -> Vec<NetfilterRule> {
    let mut table = "";
    let mut numbers: HashMap<[&str; 2], u32> = HashMap::new();
    let mut rules = Vec::new();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let ["-A", chain, options @ ..] = words.as_slice() else {
            continue;
        };
        let number = numbers.entry([table, chain]).or_default();
        *number += 1;
        let destinations: Vec<_> = options.windows(2).filter_map(iptables_destination).collect();
        if !destinations.is_empty() {
            rules.push(NetfilterRule {
                name: format!("{table} {chain} {number}"),
                destinations,
            });
        }
    }
    rules
}

fn iptables_destination(option_and_value: &[&str]) -> Option<RangeInclusive<IpAddr>> {
    match *option_and_value {
        ["-d", value] => {
            let (address, length) = value.split_once('/')?;
            network(address.parse().ok()?, length.parse().ok()?)
        }
        ["--dst-range", value] => {
            let (first, last) = value.split_once('-')?;
            Some(first.parse().ok()?..=last.parse().ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
