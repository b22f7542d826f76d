//! Segments: a NIC, or a VLAN on it. What XDP sees of a VLAN device's traffic are tagged frames on the NIC below.

use std::collections::BTreeMap;

use crate::{net::Link, tables::NextHop};

/// A tag of IEEE 802.1ad, in [`Segment::vlan_tags`].
const SERVICE_TAG: u16 = 0x8000;

/// Where frames come in and go out: a NIC, and the tags they carry there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Index of the NIC.
    pub ifindex: u32,
    /// Outer and inner tag, as in [`crate::tables::NextHop::vlan_tags`].
    pub vlan_tags: [u16; 2],
}

/// Why XDP cannot serve a VLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// More tags than a frame may carry here.
    #[error("more than two VLAN tags: lbx supports two (802.1ad QinQ)")]
    TooManyTags,
    /// VLAN 0 means a priority and no VLAN (IEEE 802.1Q section 9.6).
    #[error("VLAN ID 0 is a priority tag and no VLAN: use the device below it")]
    PriorityTag,
    /// The device below is not here.
    #[error("the device below it is in another network namespace: run lbx in that one")]
    OtherNamespace,
    /// The device below has gone since the links were read.
    #[error("the device below it is gone")]
    LowerDeviceGone,
}

impl Segment {
    /// The segment of a device: of a VLAN device, that of the NIC below and its tags.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn of_device(links: &BTreeMap<u32, Link>, device: &Link) -> Result<Self, SegmentError> {
        let mut tags = Vec::new();
        let mut below = device;
        while let Some(vlan) = below.vlan {
            if vlan.id == 0 {
                return Err(SegmentError::PriorityTag);
            }
            // The higher the device, the closer to the packet its tag.
            tags.insert(0, vlan.id | if vlan.is_8021ad { SERVICE_TAG } else { 0 });
            if tags.len() > 2 {
                return Err(SegmentError::TooManyTags);
            }
            let lower = vlan.lower_ifindex.ok_or(SegmentError::OtherNamespace)?;
            below = links.get(&lower).ok_or(SegmentError::LowerDeviceGone)?;
        }
        Ok(Self {
            ifindex: below.index,
            vlan_tags: [0, 1].map(|place: usize| tags.get(place).copied().unwrap_or_default()),
        })
    }

    /// Whether frames carry tags there.
    #[must_use]
    pub const fn is_tagged(&self) -> bool {
        self.vlan_tags[0] != 0
    }
}

impl From<&NextHop> for Segment {
    fn from(hop: &NextHop) -> Self {
        Self {
            ifindex: hop.ifindex,
            vlan_tags: hop.vlan_tags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::VlanDevice;

    fn nic(index: u32) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            mac: [2, 0, 0, 0, 0, index as u8],
            up: true,
            carrier: true,
            mtu: 1_500,
            xdp: None,
            vlan: None,
            kind: Default::default(),
            master_ifindex: None,
            peer: None,
        }
    }

    fn vlan(index: u32, lower: u32, id: u16, service: bool) -> Link {
        Link {
            vlan: Some(VlanDevice {
                lower_ifindex: Some(lower),
                id,
                is_8021ad: service,
            }),
            ..nic(index)
        }
    }

    fn segment(links: impl IntoIterator<Item = Link>, index: u32) -> Result<(u32, [u16; 2]), SegmentError> {
        let links: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
        Segment::of_device(&links, &links[&index]).map(|segment| (segment.ifindex, segment.vlan_tags))
    }

    #[test]
    fn a_nic_is_a_segment_without_tags() {
        assert_eq!(segment([nic(2)], 2), Ok((2, [0, 0])));
    }

    #[test]
    fn a_vlan_device_is_a_tag_on_the_nic_below() {
        assert_eq!(segment([nic(2), vlan(5, 2, 10, false)], 5), Ok((2, [10, 0])));
        assert_eq!(segment([nic(2), vlan(5, 2, 10, true)], 5), Ok((2, [0x800a, 0])));
    }

    #[test]
    fn the_lower_device_has_the_outer_tag() {
        let links = [nic(2), vlan(5, 2, 10, true), vlan(6, 5, 4094, false)];
        assert_eq!(segment(links, 6), Ok((2, [0x800a, 4094])));
    }

    #[test]
    fn what_a_frame_cannot_show_is_refused() {
        let three = [
            nic(2),
            vlan(5, 2, 10, false),
            vlan(6, 5, 11, false),
            vlan(7, 6, 12, false),
        ];
        assert_eq!(segment(three, 7), Err(SegmentError::TooManyTags));
        assert_eq!(
            segment([nic(2), vlan(5, 2, 0, false)], 5),
            Err(SegmentError::PriorityTag)
        );
        assert_eq!(segment([vlan(5, 2, 10, false)], 5), Err(SegmentError::LowerDeviceGone));
        let mut moved = vlan(5, 2, 10, false);
        moved.vlan = moved.vlan.map(|vlan| VlanDevice {
            lower_ifindex: None,
            ..vlan
        });
        assert_eq!(segment([nic(2), moved], 5), Err(SegmentError::OtherNamespace));
        // Two devices that name each other do not keep it busy for ever.
        let circle = [vlan(5, 6, 10, false), vlan(6, 5, 11, false)];
        assert_eq!(segment(circle, 5), Err(SegmentError::TooManyTags));
    }
}
