//! Whether directories that a person can change take what is to be put there. Asked before anything is recorded: what is recorded
//! must not fail, because everything behind it waits for it.

use std::path::Path;

use super::delivery;
use super::root::Root;
use crate::disk::atomic;
use crate::disk::system::{Kind, Stat};

/// Whether a directory takes messages, and lets go of those in it: a person may have made it read-only, put a file in the place
/// of `.delivery/`, or a link or another filesystem in its own. Then others are used, and nothing is held up.
pub(super) fn takes_messages(root: &Root, directory: &Path, found: &Stat) -> bool {
    let disk = root.disk();
    let deliveries = root.join(directory).join(delivery::DIRECTORY);
    let takes_deliveries = match disk.stat(&deliveries) {
        Ok(there) => there.kind == Kind::Directory && there.device == found.device && is_writable(root, &deliveries),
        Err(_) => true,
    };
    // What is moved there comes from tmp/, and is synced with the root.
    let above = root.join(directory.parent().unwrap_or(directory));
    let is_here = disk.stat_behind(&above).is_ok_and(|above| above.device == found.device);
    found.kind == Kind::Directory && is_here && takes_deliveries && is_writable(root, &root.join(directory))
}

/// Whether a directory of the root's own, such as `alerts/`, takes files. One that is gone does: it is made anew.
pub(super) fn takes_files(root: &Root, directory: &Path) -> bool {
    let (disk, path) = (root.disk(), root.join(directory));
    match disk.stat_behind(&path) {
        Ok(found) => {
            let is_here = disk.stat_behind(root.path()).is_ok_and(|root| root.device == found.device);
            found.kind == Kind::Directory && is_here && is_writable(root, &path)
        }
        // A link that leads nowhere is in the way of a directory.
        Err(error) if atomic::is_absent(&error) => !root.is_taken(directory),
        Err(error) => atomic::is_disk_trouble(&error),
    }
}

/// Where the root itself cannot be written the disk is to blame, which is waited for.
fn is_writable(root: &Root, directory: &Path) -> bool {
    root.disk().is_writable(directory) || !root.disk().is_writable(root.path())
}
