//! A director without a daemon: the real program and its maps, run frame by frame by the kernel.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    TestRun as _, TestRunOptions,
    maps::{Array, Map, MapData},
};
use lbx::{
    dataplane::{Dataplane, pins::BPFFS},
    desired::TableSizes,
    tables::{NextHops, Tables, adopt::MapReader as _},
};
use lbx_common::{
    backend::VlanTags,
    flow::{FlowEntry, FlowKey, KEY_WORDS4, KEY_WORDS6},
    maps::{ABI, FLOWS4, FLOWS6},
    nic::{CLIENT_FACING, Nic, SERVER_FACING},
};
use lbx_tests::{bpffs, leftovers};

use crate::{
    cluster::{Cluster, LO},
    frame::{DIRECTOR, Frame},
};

/// Room for what the program makes of a frame: it adds two VLAN tags at most.
const LARGEST: usize = 256;

/// The real program with its maps.
pub struct Director {
    name: String,
    sizes: TableSizes,
    /// There but between a close and the opening that follows.
    dataplane: Option<Dataplane>,
    /// The tables of records, and the words of a record in each.
    records: [(Array<MapData, [u64; 8]>, usize); 2],
}

/// What became of a frame.
pub struct Outcome {
    /// `enum xdp_action`.
    pub action: u32,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
}

impl Director {
    /// New maps of these sizes.
    pub fn open(sizes: TableSizes) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        leftovers::sweep_once();
        bpffs::mount_if_missing()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = leftovers::name_for(std::process::id(), number) + "-model";
        let dataplane = Dataplane::open_with_test_clock(&name, sizes)?;
        let table = |map: &str| -> Result<_> {
            let path = Path::new(BPFFS).join(format!("lbx/{name}/v{ABI}/{map}"));
            Ok(Map::Array(MapData::from_pin(&path)?).try_into()?)
        };
        let mut director = Self {
            records: [(table(FLOWS4)?, KEY_WORDS4 + 1), (table(FLOWS6)?, KEY_WORDS6 + 1)],
            dataplane: Some(dataplane),
            name,
            sizes,
        };
        director.maps_mut().set_nic(Nic {
            mac: DIRECTOR,
            roles: CLIENT_FACING | SERVER_FACING,
            ifindex: LO,
            vlan_tags: VlanTags::NONE,
        })?;
        Ok(director)
    }

    /// Closes all maps and opens them again from their pins.
    pub fn reopen(&mut self) -> Result<()> {
        drop(self.dataplane.take());
        let dataplane = Dataplane::open_with_test_clock(&self.name, self.sizes)?;
        ensure!(dataplane.has_adopted_maps(), "the pins are not adopted");
        self.dataplane = Some(dataplane);
        Ok(())
    }

    /// Takes everything out of the maps, so that another history may begin.
    pub fn clear(&mut self) -> Result<()> {
        let tables = Tables::adopt(self.maps(), 0)?;
        let plan = tables.plan(&Cluster::nothing().desired(), &NextHops::new(), 0)?;
        self.maps_mut().apply(&plan.writes)?;
        let tables = self.maps().empty_tables();
        // A record of a service that is no longer is erased.
        let _census = self.maps().sweep_flows(&tables, 0);
        ensure!(
            self.maps().vips().is_empty() && self.maps().ports().is_empty(),
            "something is left"
        );
        Ok(())
    }

    /// The maps, to read from.
    pub fn maps(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("open")
    }

    /// The maps, to change them.
    pub fn maps_mut(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("open")
    }

    /// Runs the program on a frame that came in by lo.
    pub fn run(&self, frame: &Frame) -> Result<Outcome> {
        let mut bytes = vec![0; LARGEST];
        let result = self.maps().program()?.test_run(TestRunOptions {
            data_in: Some(&frame.bytes),
            data_out: Some(&mut bytes),
            ..TestRunOptions::default()
        })?;
        bytes.truncate(result.data_size_out as usize);
        Ok(Outcome {
            action: result.return_value,
            bytes,
        })
    }

    /// All records there are: one system call a bucket, for small tables.
    pub fn records(&self) -> Result<Vec<(FlowKey, FlowEntry)>> {
        let mut records = Vec::new();
        for (map, words) in &self.records {
            let words = *words;
            for index in 0..map.len() {
                let bucket = map.get(&index, 0).context("a bucket")?;
                for record in bucket.chunks(words).filter(|record| record[words - 1] != 0) {
                    let key = match *record {
                        [word, _] => FlowKey::from_word(word),
                        [high, low, rest, _] => FlowKey::from_words([high, low, rest]),
                        _ => unreachable!("records have two words or four"),
                    };
                    records.push((key, FlowEntry::from_word(record[words - 1])));
                }
            }
        }
        Ok(records)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            // What could not be removed is a leftover for the next run.
            dataplane.detach_and_unpin().ok();
        }
    }
}
