//! What there is: links, addresses, routes, sysctls.

use std::collections::BTreeMap;

use super::{
    RealServerError,
    rules::HostState,
    sysctl::{self, Values},
};
use crate::net::{Link, RouteNetlink};

/// The loopback interface.
const LOOPBACK: &str = "lo";

/// Reads everything that the rules judge.
///
/// # Errors
/// The kernel refuses a request, or there is no lo.
pub async fn observe(net: &RouteNetlink) -> Result<HostState, RealServerError> {
    let (loopback, others): (Vec<Link>, Vec<Link>) =
        net.links().await?.into_iter().partition(|link| link.name == LOOPBACK);
    let lo = loopback.first().ok_or(RealServerError::NoLoopback)?;
    let hears_arp = |link: &&Link| link.up && link.mac != [0; 6];
    let nics: Vec<_> = others.iter().filter(hears_arp).map(|link| link.name.clone()).collect();
    Ok(HostState {
        lo_ifindex: lo.index,
        lo_up: lo.up,
        lo_ipv6_enabled: sysctl::ipv6_on(LOOPBACK)?,
        sysctls_by_nic: sysctls(&nics)?,
        arp_nics: nics,
        link_names: others.into_iter().map(|link| (link.index, link.name)).collect(),
        addresses: net.addresses().await?,
        routes: net.routes_via(lo.index).await?,
    })
}

/// Reads the sysctls of `all`, `lo` and these NICs.
///
/// # Errors
/// A file cannot be read.
pub fn sysctls(nics: &[String]) -> Result<BTreeMap<String, Values>, RealServerError> {
    let mut found = BTreeMap::new();
    for conf in ["all", LOOPBACK].into_iter().chain(nics.iter().map(String::as_str)) {
        if let Some(values) = sysctl::read(conf)? {
            found.insert(conf.to_owned(), values);
        }
    }
    Ok(found)
}
