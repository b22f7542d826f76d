//! Numbers in `/proc/sys/net`, of the calling thread's network namespace.

use std::{fs, io, path::Path};

/// The number in a file; `None` if the file is not there, as for a NIC that is gone.
///
/// # Errors
/// The file cannot be read or holds no number.
pub fn read_number(path: &Path) -> io::Result<Option<i32>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let value = text.trim().parse();
            value
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
