//! `Move`: a file too large for a record of the journal gets its final name.
//!
//! Its content, and the name under which it was prepared, were synced before the record. So in every boot that name tells
//! how far the step came: while it is there the file is to be moved, and once it is gone the file was moved, and what a person
//! deleted since stays deleted. A crash leaves one of the two names, never both, because a rename is one change of the
//! filesystem's own log.
//!
//! Content that comes in parts is written by steps of its own. While the log holds these, their replay would make the file anew
//! behind its move: so the log is emptied before the move is recorded, which is also what syncs the content.
//!
//! What a rename can lose is a directory that it leads to and that nobody has synced. Hence the directory is synced first.

use std::io;
use std::path::Path;

use super::apply::in_directory;
use super::place::move_new;
use crate::disk::atomic;
use crate::disk::system::Disk;

/// Moves `from` to `path`, or to the first numbered name that is free. Nothing happens where `from` is gone.
pub(super) fn move_synced(disk: &dyn Disk, root: &Path, path: &Path, from: &Path) -> io::Result<()> {
    match disk.stat(from) {
        Err(error) if atomic::is_absent(&error) => return Ok(()),
        found => drop(found?),
    }
    let directory = atomic::parent(path);
    in_directory(disk, root, path, || disk.open_directory(directory))?;
    // The name of each stands in the one above it.
    for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        disk.open_directory(above)?.sync()?;
    }
    move_new(disk, root, path, from)
}
