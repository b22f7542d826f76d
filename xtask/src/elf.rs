//! Just enough ELF to see whether a section is there.

/// Whether a little-endian ELF64 file has a non-empty section of this name.
pub fn has_section(elf: &[u8], name: &str) -> bool {
    sections(elf).is_some_and(|mut sections| sections.any(|(found, size)| found == name.as_bytes() && size > 0))
}

/// Name and size of each section; nothing when this is no ELF64 file or a header points outside.
fn sections(elf: &[u8]) -> Option<impl Iterator<Item = (&[u8], u64)>> {
    const MAGIC_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    if !elf.starts_with(MAGIC_64_LITTLE) {
        return None;
    }
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let entry_size = usize::try_from(number(elf, 0x3a, 2)?).ok()?;
    let entries = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let names_index = usize::try_from(number(elf, 0x3e, 2)?).ok()?;
    let header = move |index: usize| elf.get(table.checked_add(index.checked_mul(entry_size)?)?..);
    let names = usize::try_from(number(header(names_index)?, 0x18, 8)?).ok()?;
    let names = elf.get(names..)?;
    Some((0..entries).filter_map(move |index| {
        let header = header(index)?;
        let name = names.get(usize::try_from(number(header, 0, 4)?).ok()?..)?;
        Some((name.split(|&byte| byte == 0).next()?, number(header, 0x20, 8)?))
    }))
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file header and three section headers: none, the names, and an empty or filled .BTF whose name is the tail of
    /// another one, as linkers store it.
    fn object(btf_size: u64) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.rel.BTF\0";
        let mut elf = vec![0; 0x40 + 3 * 0x40];
        let mut put = |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01");
        put(0x28, &0x40_u64.to_le_bytes());
        put(0x3a, &[0x40, 0, 3, 0, 1, 0]);
        put(0x80 + 0x18, &0x100_u64.to_le_bytes());
        put(0xc0, &5_u32.to_le_bytes());
        put(0xc0 + 0x20, &btf_size.to_le_bytes());
        elf.extend(NAMES);
        elf
    }

    #[test]
    fn finds_a_filled_section() {
        assert!(has_section(&object(24), ".BTF"));
        assert!(!has_section(&object(24), ".BTF.ext"));
        assert!(!has_section(&object(0), ".BTF"));
    }

    #[test]
    fn survives_anything_that_is_not_elf() {
        assert!(!has_section(b"", ".BTF"));
        let whole = object(24);
        for end in 0..whole.len() {
            let _ = has_section(&whole[..end], ".BTF");
        }
    }
}
