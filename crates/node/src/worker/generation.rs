//! How often a pod's sandbox has been made anew: a number in the pod's directory. What init containers prepared in an earlier one (in
//! memory, in its network) is gone with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

const FILE: &str = "sandboxes";

/// The number; none is zero.
pub fn read(directory: &Path) -> u32 {
    let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Writes it so that a power cut leaves the old one or the new one.
pub fn write(directory: &Path, number: u32) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let new = directory.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(number.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, directory.join(FILE))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("pod");
        assert_eq!(read(&own), 0);
        write(&own, 7).expect("written");
        assert_eq!(read(&own), 7);
        write(&own, 8).expect("written");
        assert_eq!(read(&own), 8);
        assert_eq!(fs::read_dir(&own).expect("listed").count(), 1);
    }
}
