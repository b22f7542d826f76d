//! Typed handles of all maps, opened from their pins.

use aya::{
    Pod,
    maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, MapType, PerCpuArray},
};
use lbx_common::{
    backend::Backend,
    counters::Traffic,
    drops::DropReason,
    flow::Bucket,
    maps::{self, Meta},
    nic::Nic,
    service::{Service, ServiceKey},
    trace::TraceFilter,
};

use super::{DataplaneError, mapped::Mapped, pins::Pins};

/// Every map user space reads or writes.
pub(super) struct Maps {
    pub services: HashMap<MapData, ServiceKey, Service>,
    pub vips: HashMap<MapData, [u8; 4], u32>,
    pub slots: Mapped,
    pub rings: Array<MapData, u32>,
    pub cursors: Array<MapData, u64>,
    pub backends: Mapped,
    pub flows: Mapped,
    pub service_stats: PerCpuArray<MapData, Traffic>,
    pub backend_stats: PerCpuArray<MapData, Traffic>,
    pub drops: PerCpuArray<MapData, u64>,
    pub nics: Mapped,
    pub egress: DevMapHash<MapData>,
    pub trace_filter: Array<MapData, TraceFilter>,
    meta: Array<MapData, Meta>,
}

impl Maps {
    /// Opens all of them.
    ///
    /// # Errors
    /// A pin is missing or cannot be opened.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            services: typed(pins, maps::SERVICES, Map::HashMap)?,
            vips: typed(pins, maps::VIPS, Map::HashMap)?,
            slots: Mapped::open(maps::SLOTS, &data(pins, maps::SLOTS)?)?,
            rings: typed(pins, maps::RINGS, Map::Array)?,
            cursors: typed(pins, maps::CURSORS, Map::Array)?,
            backends: Mapped::open(maps::BACKENDS, &data(pins, maps::BACKENDS)?)?,
            flows: Mapped::open(maps::FLOWS, &data(pins, maps::FLOWS)?)?,
            service_stats: typed(pins, maps::SERVICE_STATS, Map::PerCpuArray)?,
            backend_stats: typed(pins, maps::BACKEND_STATS, Map::PerCpuArray)?,
            drops: typed(pins, maps::DROPS, Map::PerCpuArray)?,
            nics: Mapped::open(maps::NICS, &data(pins, maps::NICS)?)?,
            egress: typed(pins, maps::EGRESS, Map::DevMapHash)?,
            trace_filter: typed(pins, maps::TRACE_FILTER, Map::Array)?,
            meta: typed(pins, maps::META, Map::Array)?,
        })
    }

    /// Writes what the next daemon must know.
    pub fn write_meta(&mut self, meta: Meta) -> Result<(), DataplaneError> {
        self.meta.set(0, meta, 0).map_err(failed(maps::META))
    }
}

/// What a map of this layout looks like.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    /// None: any number, the program is told.
    entries: Option<u32>,
}

const fn shape(name: &'static str, kind: MapType, key: usize, value: usize, entries: u32) -> Shape {
    Shape {
        name,
        kind,
        key,
        value,
        entries: Some(entries),
    }
}

/// Shapes of all pinned maps. A pin opens whatever stands there: a narrower value would be read past its end.
const SHAPES: [Shape; maps::PINNED.len()] = {
    use MapType::{Array, DevMapHash, Hash, PerCpuArray};
    const TRAFFIC: usize = size_of::<Traffic>();
    [
        shape(
            maps::SERVICES,
            Hash,
            size_of::<ServiceKey>(),
            size_of::<Service>(),
            maps::MAX_SERVICES,
        ),
        shape(maps::VIPS, Hash, 4, 4, maps::MAX_SERVICES),
        shape(maps::SLOTS, Array, 4, 8, maps::MAX_SLOTS),
        shape(maps::RINGS, Array, 4, 4, maps::MAX_RING_ENTRIES),
        shape(maps::CURSORS, Array, 4, 8, maps::MAX_SERVICES),
        shape(maps::BACKENDS, Array, 4, size_of::<Backend>(), maps::MAX_BACKENDS),
        Shape {
            name: maps::FLOWS,
            kind: Array,
            key: 4,
            value: size_of::<Bucket>(),
            entries: None,
        },
        shape(maps::SERVICE_STATS, PerCpuArray, 4, TRAFFIC, maps::MAX_SERVICES),
        shape(maps::BACKEND_STATS, PerCpuArray, 4, TRAFFIC, maps::MAX_SERVERS),
        shape(maps::DROPS, PerCpuArray, 4, 8, DropReason::COUNT as u32),
        shape(maps::NICS, Array, 4, size_of::<Nic>() * maps::MAX_NICS as usize, 1),
        shape(maps::EGRESS, DevMapHash, 4, 8, maps::MAX_NICS),
        shape(maps::TRACE_FILTER, Array, 4, size_of::<TraceFilter>(), 1),
        shape(maps::META, Array, 4, size_of::<Meta>(), 1),
    ]
};

/// Compares every pinned map with what this version expects.
///
/// # Errors
/// One cannot be opened, or differs.
pub(super) fn check_shapes(pins: &Pins) -> Result<(), DataplaneError> {
    for shape in &SHAPES {
        let info = data(pins, shape.name)?.info().map_err(failed(shape.name))?;
        let kind = info.map_type().map_err(failed(shape.name))?;
        let entries = shape.entries.unwrap_or(info.max_entries());
        for (what, found, expected) in [
            ("type", kind as usize, shape.kind as usize),
            ("key size", info.key_size() as usize, shape.key),
            ("value size", info.value_size() as usize, shape.value),
            ("number of entries", info.max_entries() as usize, entries as usize),
        ] {
            if found != expected {
                return Err(DataplaneError::Shape {
                    path: pins.map(shape.name).display().to_string(),
                    what,
                    found: found.to_string(),
                    expected: expected.to_string(),
                });
            }
        }
    }
    let buckets = flow_buckets(pins)?;
    if !buckets.is_power_of_two() {
        return Err(DataplaneError::Shape {
            path: pins.map(maps::FLOWS).display().to_string(),
            what: "number of entries",
            found: buckets.to_string(),
            expected: "a power of two".into(),
        });
    }
    Ok(())
}

/// The number of buckets the flow table was made with.
pub(super) fn flow_buckets(pins: &Pins) -> Result<u32, DataplaneError> {
    let info = data(pins, maps::FLOWS)?.info().map_err(failed(maps::FLOWS))?;
    Ok(info.max_entries())
}

/// What the former daemon has left to know.
pub(super) fn read_meta(pins: &Pins) -> Result<Meta, DataplaneError> {
    let meta: Array<MapData, Meta> = typed(pins, maps::META, Map::Array)?;
    meta.get(&0, 0).map_err(failed(maps::META))
}

/// Says which map it was.
pub(super) fn failed(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, source }
}

fn data(pins: &Pins, name: &'static str) -> Result<MapData, DataplaneError> {
    MapData::from_pin(pins.map(name)).map_err(failed(name))
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
    kind: fn(MapData) -> Map,
) -> Result<T, DataplaneError> {
    T::try_from(kind(data(pins, name)?)).map_err(failed(name))
}

/// Adds up what every CPU has counted.
pub(super) fn sum<T: Pod + Default + std::ops::AddAssign>(
    map: &PerCpuArray<MapData, T>,
    name: &'static str,
    index: u32,
) -> Result<T, DataplaneError> {
    let values = map.get(&index, 0).map_err(failed(name))?;
    Ok(values.iter().fold(T::default(), |mut sum, &value| {
        sum += value;
        sum
    }))
}
