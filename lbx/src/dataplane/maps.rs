//! Typed handles of all maps, opened from their pins.

use aya::{
    Pod,
    maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, MapType, PerCpuArray},
};
use lbx_common::{
    backend::Backend,
    counters::Traffic,
    drops::DropReason,
    flow::{Bucket4, Bucket6, RECORDS_PER_BUCKET4, RECORDS_PER_BUCKET6},
    fragment::{FirstFragment, FragmentKey},
    host_packets::{HostPackets, MAX_DEVICES},
    load,
    lookup::{PortBucket, VipBucket},
    lost_frames::{LostFrameKind, MAX_KINDS},
    maps::{self, AdoptionInfo},
    nic::Nic,
    routed_replies::{self, RoutedReplies},
    service::Service,
    session::{MAX_SESSIONS, PORT_BITMAP_WORDS, Session, SessionKey, Steering},
    trace::TraceFilter,
};

use super::{
    DataplaneError,
    error::map_failed,
    mapped::MmapArray,
    pins::{Pins, entries},
};
use crate::desired::TableSizes;

/// Every map user space reads or writes.
pub(super) struct Maps {
    pub vips: MmapArray,
    pub ports: MmapArray,
    pub services: MmapArray,
    pub slots: MmapArray,
    pub scheduler_rings: Array<MapData, u32>,
    pub ring_cursors: Array<MapData, u64>,
    pub backends: MmapArray,
    pub backend_loads: MmapArray,
    pub flows4: MmapArray,
    pub flows6: MmapArray,
    pub quic_ids: HashMap<MapData, u32, u32>,
    pub service_stats: PerCpuArray<MapData, Traffic>,
    pub backend_stats: PerCpuArray<MapData, Traffic>,
    pub drops: PerCpuArray<MapData, u64>,
    pub more_drops: PerCpuArray<MapData, u64>,
    pub nics: MmapArray,
    pub egress: DevMapHash<MapData>,
    pub trace_filter: Array<MapData, TraceFilter>,
    pub test_clock: Array<MapData, u64>,
    pub routed_replies: PerCpuArray<MapData, RoutedReplies>,
    pub host_packets: HashMap<MapData, u32, HostPackets>,
    pub lost_frames: HashMap<MapData, LostFrameKind, u64>,
    meta: Array<MapData, AdoptionInfo>,
}

impl Maps {
    /// Opens all of them.
    ///
    /// # Errors
    /// A pin is missing or cannot be opened.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let mapped = |name| MmapArray::open(name, &data(pins, name)?);
        Ok(Self {
            vips: mapped(maps::VIPS)?,
            ports: mapped(maps::PORTS)?,
            services: mapped(maps::SERVICES)?,
            slots: mapped(maps::SLOTS)?,
            scheduler_rings: typed(pins, maps::RINGS, Map::Array)?,
            ring_cursors: typed(pins, maps::RING_CURSORS, Map::Array)?,
            backends: mapped(maps::BACKENDS)?,
            backend_loads: mapped(maps::BACKEND_LOADS)?,
            flows4: mapped(maps::FLOWS4)?,
            flows6: mapped(maps::FLOWS6)?,
            quic_ids: typed(pins, maps::QUIC_IDS, Map::HashMap)?,
            service_stats: typed(pins, maps::SERVICE_STATS, Map::PerCpuArray)?,
            backend_stats: typed(pins, maps::BACKEND_STATS, Map::PerCpuArray)?,
            drops: typed(pins, maps::DROPS, Map::PerCpuArray)?,
            more_drops: typed(pins, maps::MORE_DROPS, Map::PerCpuArray)?,
            nics: mapped(maps::NICS)?,
            egress: typed(pins, maps::EGRESS, Map::DevMapHash)?,
            trace_filter: typed(pins, maps::TRACE_FILTER, Map::Array)?,
            test_clock: typed(pins, maps::TEST_CLOCK_NS, Map::Array)?,
            routed_replies: typed(pins, maps::ROUTED_REPLIES, Map::PerCpuArray)?,
            host_packets: typed(pins, maps::HOST_PACKETS, Map::LruHashMap)?,
            lost_frames: typed(pins, maps::LOST_FRAMES, Map::LruHashMap)?,
            meta: typed(pins, maps::META, Map::Array)?,
        })
    }

    /// Writes the metadata that the next daemon adopts.
    pub fn write_meta(&mut self, meta: AdoptionInfo) -> Result<(), DataplaneError> {
        self.meta.set(0, meta, 0).map_err(map_failed(maps::META))
    }
}

/// Type and sizes of a map of this layout.
pub(super) struct MapSpec {
    pub name: &'static str,
    pub kind: MapType,
    pub key_size: usize,
    pub value_size: usize,
    entries: Entries,
}

impl MapSpec {
    /// How many entries it is made with.
    pub fn max_entries(&self, sizes: &TableSizes) -> u32 {
        match self.entries {
            Entries::These(entries) => entries,
            Entries::Any(of) | Entries::PowerOfTwo(of) => of(sizes),
        }
    }
}

/// How many entries a map has.
#[derive(Clone, Copy)]
enum Entries {
    /// A fixed number.
    These(u32),
    /// As many as the configuration says; those of a former daemon as many as they were made with.
    Any(fn(&TableSizes) -> u32),
    /// The same, but a power of two.
    PowerOfTwo(fn(&TableSizes) -> u32),
}

/// Buckets of IPv4 flow records.
pub(super) const fn buckets4(sizes: &TableSizes) -> u32 {
    sizes.flows4 / RECORDS_PER_BUCKET4 as u32
}

/// Buckets of IPv6 flow records.
pub(super) const fn buckets6(sizes: &TableSizes) -> u32 {
    sizes.flows6 / RECORDS_PER_BUCKET6 as u32
}

const fn array(name: &'static str, value: usize, entries: u32) -> MapSpec {
    shape(name, MapType::Array, value, Entries::These(entries))
}

const fn shape(name: &'static str, kind: MapType, value: usize, entries: Entries) -> MapSpec {
    MapSpec {
        name,
        kind,
        key_size: 4,
        value_size: value,
        entries,
    }
}

/// Shapes of all pinned maps. A pin opens any map: a narrower value would be read past its end.
pub(super) const SHAPES: [MapSpec; maps::PINNED_MAPS.len()] = {
    use Entries::{Any, PowerOfTwo, These};
    use MapType::{Array, DevMapHash, Hash, LruHash, PerCpuArray, SkStorage};
    const TRAFFIC: usize = size_of::<Traffic>();
    [
        array(maps::VIPS, size_of::<VipBucket>(), maps::VIP_BUCKETS),
        shape(
            maps::PORTS,
            Array,
            size_of::<PortBucket>(),
            PowerOfTwo(|sizes| sizes.ports),
        ),
        array(maps::SERVICES, size_of::<Service>(), maps::MAX_SERVICES),
        shape(maps::SLOTS, Array, 8, Any(|sizes| sizes.slots)),
        array(maps::RINGS, 4, maps::MAX_RING_ENTRIES),
        array(maps::RING_CURSORS, 8, maps::MAX_SERVICES),
        array(maps::BACKENDS, size_of::<Backend>(), maps::MAX_BACKENDS),
        array(maps::BACKEND_LOADS, 8 * load::LOAD_WORDS, maps::MAX_SERVERS),
        shape(maps::FLOWS4, Array, size_of::<Bucket4>(), PowerOfTwo(buckets4)),
        shape(maps::FLOWS6, Array, size_of::<Bucket6>(), PowerOfTwo(buckets6)),
        MapSpec {
            key_size: size_of::<FragmentKey>(),
            ..shape(
                maps::FRAGMENTS,
                LruHash,
                size_of::<FirstFragment>(),
                Any(|sizes| sizes.fragments),
            )
        },
        shape(maps::QUIC_IDS, Hash, 4, These(maps::MAX_QUIC_IDS)),
        shape(maps::SERVICE_STATS, PerCpuArray, TRAFFIC, These(maps::MAX_SERVICES)),
        shape(maps::BACKEND_STATS, PerCpuArray, TRAFFIC, These(maps::MAX_SERVERS)),
        shape(maps::DROPS, PerCpuArray, 8, These(DropReason::IN_DROPS as u32)),
        array(maps::NICS, size_of::<Nic>() * maps::MAX_NICS as usize, 1),
        shape(maps::EGRESS, DevMapHash, 8, These(maps::MAX_NICS)),
        array(maps::TRACE_FILTER, size_of::<TraceFilter>(), 1),
        array(maps::META, size_of::<AdoptionInfo>(), 1),
        array(maps::TEST_CLOCK_NS, 8, 1),
        shape(maps::STEERING, SkStorage, size_of::<Steering>(), These(0)),
        MapSpec {
            key_size: size_of::<SessionKey>(),
            ..shape(maps::SESSIONS, LruHash, size_of::<Session>(), These(MAX_SESSIONS))
        },
        array(maps::LOCAL_PORTS, 8 * PORT_BITMAP_WORDS, 1),
        shape(maps::MORE_DROPS, PerCpuArray, 8, These(maps::MAX_MORE_DROPS)),
        array(maps::REJECT_LIMITS, 8, maps::MAX_SERVICES),
        shape(
            maps::ROUTED_REPLIES,
            PerCpuArray,
            size_of::<RoutedReplies>(),
            These(routed_replies::FAMILIES),
        ),
        MapSpec {
            key_size: size_of::<LostFrameKind>(),
            ..shape(maps::LOST_FRAMES, LruHash, 8, These(MAX_KINDS))
        },
        shape(
            maps::HOST_PACKETS,
            LruHash,
            size_of::<HostPackets>(),
            These(MAX_DEVICES),
        ),
    ]
};

/// Compares every pinned map with what this version expects.
///
/// # Errors
/// One cannot be opened, or differs.
pub(super) fn check_shapes(pins: &Pins) -> Result<(), DataplaneError> {
    for shape in SHAPES.iter().filter(|shape| !is_still_to_be_made(pins, shape.name)) {
        let info = data(pins, shape.name)?.info().map_err(map_failed(shape.name))?;
        let kind = info.map_type().map_err(map_failed(shape.name))?;
        let found = info.max_entries();
        let differs = |what, found: String, expected: String| DataplaneError::MapMismatch {
            path: pins.map_path(shape.name).display().to_string(),
            what,
            found,
            expected,
        };
        for (what, found, expected) in [
            ("type", kind as usize, shape.kind as usize),
            ("key size", info.key_size() as usize, shape.key_size),
            ("value size", info.value_size() as usize, shape.value_size),
        ] {
            if found != expected {
                return Err(differs(what, found.to_string(), expected.to_string()));
            }
        }
        let expected = match shape.entries {
            Entries::These(entries) if entries != found => entries.to_string(),
            Entries::PowerOfTwo(_) if !found.is_power_of_two() => "a power of two".to_owned(),
            _ => continue,
        };
        return Err(differs("number of entries", found.to_string(), expected));
    }
    Ok(())
}

/// Whether a map is one that an earlier build of this layout did not have.
fn is_still_to_be_made(pins: &Pins, name: &str) -> bool {
    maps::MAPS_ADDED_LATER.contains(&name) && !pins.map_path(name).exists()
}

/// The sizes the tables were created with.
pub(super) fn sizes(pins: &Pins) -> Result<TableSizes, DataplaneError> {
    let entries =
        |name| -> Result<u32, DataplaneError> { Ok(data(pins, name)?.info().map_err(map_failed(name))?.max_entries()) };
    Ok(TableSizes {
        flows4: entries(maps::FLOWS4)? * RECORDS_PER_BUCKET4 as u32,
        flows6: entries(maps::FLOWS6)? * RECORDS_PER_BUCKET6 as u32,
        slots: entries(maps::SLOTS)?,
        ports: entries(maps::PORTS)?,
        fragments: entries(maps::FRAGMENTS)?,
    })
}

/// Whether a former daemon has left a complete set of maps here.
///
/// # Errors
/// The pins cannot be read.
pub(super) fn are_adoptable(pins: &Pins) -> Result<bool, DataplaneError> {
    let pinned = entries(&pins.dir)?;
    let present = |map: &str| pinned.contains(&pins.map_path(map)) || maps::MAPS_ADDED_LATER.contains(&map);
    let complete = maps::PINNED_MAPS.iter().all(|map| present(map));
    Ok(complete && pins.map_path(maps::META).exists() && read_meta(pins)?.ready == 1)
}

/// The metadata of the former daemon.
pub(super) fn read_meta(pins: &Pins) -> Result<AdoptionInfo, DataplaneError> {
    let meta: Array<MapData, AdoptionInfo> = typed(pins, maps::META, Map::Array)?;
    meta.get(&0, 0).map_err(map_failed(maps::META))
}

pub(super) fn data(pins: &Pins, name: &'static str) -> Result<MapData, DataplaneError> {
    MapData::from_pin(pins.map_path(name)).map_err(map_failed(name))
}

pub(super) fn typed<T: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
    kind: fn(MapData) -> Map,
) -> Result<T, DataplaneError> {
    T::try_from(kind(data(pins, name)?)).map_err(map_failed(name))
}

/// Adds up what every CPU has counted.
pub(super) fn sum<T: Pod + Default + std::ops::AddAssign>(
    map: &PerCpuArray<MapData, T>,
    name: &'static str,
    index: u32,
) -> Result<T, DataplaneError> {
    let values = map.get(&index, 0).map_err(map_failed(name))?;
    Ok(values.iter().fold(T::default(), |mut sum, &value| {
        sum += value;
        sum
    }))
}
