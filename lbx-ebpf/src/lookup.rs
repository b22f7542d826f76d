//! The tables a service is found by: VIPs, then protocol and port (see [`lbx_common::lookup`]).

use lbx_common::{
    address::Address,
    hash,
    lookup::{ALL_TCP_PORTS, ALL_UDP_PORTS, PORTS_PER_BUCKET, VIPS_PER_BUCKET, port_key, strip_flags},
    maps::VIP_BUCKETS,
    service::TCP,
};

use crate::{atomic, maps, service_ref::ServiceRef};

/// The service of an address, protocol and port.
#[inline(always)]
pub fn service(address: Address, protocol: u8, port: [u8; 2]) -> Option<ServiceRef> {
    ServiceRef::by_number(service_number(vip_number_and_flags(address)?, protocol, port)?)
}

/// The service number of a VIP's port.
#[inline(always)]
pub fn service_number(vip: u64, protocol: u8, vip_port: [u8; 2]) -> Option<u16> {
    service_number_of_port(vip, protocol, vip_port).or_else(|| all_ports_service(vip, protocol))
}

/// The same without the service that takes all other ports.
#[inline(always)]
pub fn service_number_of_port(vip: u64, protocol: u8, vip_port: [u8; 2]) -> Option<u16> {
    port(port_key(strip_flags(vip), protocol, vip_port))
}

/// The value of a VIP.
#[inline(always)]
pub fn vip_number_and_flags(address: Address) -> Option<u64> {
    for bucket in hash::buckets(hash::vip(address, maps::seed()), VIP_BUCKETS - 1) {
        let bucket = maps::vips(bucket)?;
        for way in 0..VIPS_PER_BUCKET {
            // SAFETY: way < VIPS_PER_BUCKET, and the verifier has checked the bucket's bounds.
            let entry = unsafe { &raw const (*bucket).entries[way] };
            // SAFETY: only addresses are taken.
            let (value, high, low) = unsafe {
                (
                    &raw const (*entry).vip_number_and_flags,
                    &raw const (*entry).address.high_be,
                    &raw const (*entry).address.low_be,
                )
            };
            let value = atomic::load(value);
            if value != 0 && atomic::load(low) == address.low_be && atomic::load(high) == address.high_be {
                return Some(value);
            }
        }
    }
    None
}

/// The service number of a port key.
#[inline(always)]
fn port(key: u64) -> Option<u16> {
    for bucket in hash::buckets(hash::port(key, maps::seed()), maps::port_bucket_mask()) {
        let bucket = maps::ports(bucket)?;
        for way in 0..PORTS_PER_BUCKET {
            // SAFETY: way < PORTS_PER_BUCKET, and the verifier has checked the bucket's bounds.
            let entry = unsafe { &raw const (*bucket).entries[way] };
            // SAFETY: only addresses are taken.
            let (value, entry_key) = unsafe { (&raw const (*entry).service_number_and_flags, &raw const (*entry).key) };
            let value = atomic::load(value);
            if value != 0 && atomic::load(entry_key) == key {
                return Some(strip_flags(value));
            }
        }
    }
    None
}

/// The number of the service that takes all ports of a VIP not taken by other services.
#[inline(always)]
pub fn all_ports_service(vip: u64, protocol: u8) -> Option<u16> {
    let flag = if protocol == TCP { ALL_TCP_PORTS } else { ALL_UDP_PORTS };
    if vip & flag == 0 {
        return None;
    }
    port(port_key(strip_flags(vip), protocol, [0; 2]))
}
