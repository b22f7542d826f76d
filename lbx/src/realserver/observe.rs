//! What there is: links, addresses, routes, sysctls.

use std::collections::BTreeMap;

use super::{
    RealServerError,
    rules::Observed,
    sysctl::{self, Values},
};
use crate::net::{Link, Net};

/// The loopback interface.
const LOOPBACK: &str = "lo";

/// Reads everything that the rules judge.
///
/// # Errors
/// The kernel refuses a request, or there is no lo.
pub async fn observe(net: &Net) -> Result<Observed, RealServerError> {
    let (loopback, others): (Vec<Link>, Vec<Link>) =
        net.links().await?.into_iter().partition(|link| link.name == LOOPBACK);
    let lo = loopback.first().ok_or(RealServerError::NoLoopback)?;
    let hears_arp = |link: &&Link| link.up && link.mac != [0; 6];
    let nics: Vec<_> = others.iter().filter(hears_arp).map(|link| link.name.clone()).collect();
    Ok(Observed {
        lo: lo.index,
        lo_up: lo.up,
        lo_ipv6: sysctl::ipv6_on(LOOPBACK)?,
        conf: sysctls(&nics)?,
        nics,
        links: others.into_iter().map(|link| (link.index, link.name)).collect(),
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
