//! Big files to carry across the lab.

use std::{
    fs::File,
    hash::{DefaultHasher, Hasher as _},
    io::{BufWriter, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Size and checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Its length in bytes.
    pub length: u64,
    /// Its SipHash: the same in one run of one program, which is all that is needed.
    pub checksum: u64,
}

/// Writes a file of that many megabytes that no two blocks of agree, and gives its digest.
///
/// # Errors
/// The disk is full, or so.
pub fn write(path: &Path, megabytes: usize) -> Result<Digest> {
    const WORDS: usize = (1 << 20) / size_of::<u64>();
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut file = BufWriter::new(file);
    // Marsaglia's xorshift64.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..megabytes * WORDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.into_inner()?;
    digest(path)
}

/// The digest of a file.
///
/// # Errors
/// It cannot be read.
pub fn digest(path: &Path) -> Result<Digest> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    let mut length = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.write(&buffer[..count]);
        length += count as u64;
    }
    Ok(Digest {
        length,
        checksum: hasher.finish(),
    })
}
