//! The records of flows as they lie in the maps.

use anyhow::Result;
use lbx_common::{
    flow::{Bucket4, Bucket6, EMPTY, FlowEntry, FlowKey},
    maps,
};

use crate::director::Director;

/// All records that are not empty, of both families.
pub fn all(director: &Director) -> Result<Vec<(FlowKey, FlowEntry)>> {
    let four = director.memory::<Bucket4>(maps::FLOWS4)?;
    let six = director.memory::<Bucket6>(maps::FLOWS6)?;
    let four = four.iter().flat_map(|bucket| bucket.records);
    let six = six.iter().flat_map(|bucket| bucket.records);
    let records = four
        .map(|record| (FlowKey::from_word(record.key[0]), record.entry_word))
        .chain(six.map(|record| (FlowKey::from_words(record.key), record.entry_word)));
    Ok(records
        .map(|(key, word)| (key, FlowEntry::from_word(word)))
        .filter(|(_, entry)| entry.state != EMPTY)
        .collect())
}
