//! Files that are kept in memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// No file that people write is larger.
const LARGEST: u64 = 16 << 20;

/// The content of a file that people write. Nothing is waited for, and no more is read than such a file can hold.
///
/// # Errors
/// It cannot be read, is a pipe or a device, or is larger than 16 MiB.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Before it is opened: a pipe that nobody writes to would be waited for.
    if !path.metadata()?.is_file() {
        return Err(wrong("it is no plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if length as u64 > LARGEST {
        return Err(wrong(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(bytes)
}
