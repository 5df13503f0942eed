//! `keys/dropped`: files of dropboxes whose content is recorded, and that are still to be removed where they stand.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use prost::Message as _;

use super::generated::state as pb;
use super::journal::FileIdentity;
use super::{Malformed, decode};

/// One such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedFile {
    /// The dropbox, absolute.
    pub directory: PathBuf,
    /// The name that it was read under.
    pub name: OsString,
    /// The name that it gets before it is compared: random, so that nobody takes it first.
    pub hidden: OsString,
    /// The inode.
    pub inode: u64,
    /// When the inode was made, nanoseconds since 1970, where the filesystem keeps that.
    pub born_ns: Option<i64>,
    /// When what was read was written, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Bytes that were read.
    pub size: u64,
}

impl DroppedFile {
    /// Whether a file in the dropbox is this one, as it was read. The number of its filesystem may be another after a start
    /// of the machine, and counts for nothing.
    pub fn is_it(&self, found: &FileIdentity) -> bool {
        self.is_same_inode(found) && (self.modified_ns, self.size) == (found.modified_ns, found.size)
    }

    /// The same, as it may have changed since.
    pub fn is_same_inode(&self, found: &FileIdentity) -> bool {
        (self.inode, self.born_ns) == (found.inode, found.born_ns)
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn all_from_bytes(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let dropped: pb::Dropped = decode("dropped files", bytes)?;
        dropped.files.into_iter().map(Self::parse).collect()
    }

    /// The serialized form of [`DroppedFile::all_from_bytes`].
    pub fn all_to_bytes(files: &[Self]) -> Vec<u8> {
        let generated = |file: &Self| pb::DroppedFile {
            directory: file.directory.as_os_str().as_bytes().to_vec(),
            name: file.name.as_bytes().to_vec(),
            hidden: file.hidden.as_bytes().to_vec(),
            inode: file.inode,
            born_ns: file.born_ns,
            modified_ns: file.modified_ns,
            size: file.size,
        };
        pb::Dropped { files: files.iter().map(generated).collect() }.encode_to_vec()
    }

    fn parse(file: pb::DroppedFile) -> Result<Self, Malformed> {
        let directory = PathBuf::from(OsString::from_vec(file.directory));
        if !directory.is_absolute() {
            return Err(Malformed::new("dropped file", "its directory is not absolute"));
        }
        Ok(Self {
            directory,
            name: plain(file.name)?,
            hidden: plain(file.hidden)?,
            inode: file.inode,
            born_ns: file.born_ns,
            modified_ns: file.modified_ns,
            size: file.size,
        })
    }
}

/// A name that stays in its directory.
fn plain(name: Vec<u8>) -> Result<OsString, Malformed> {
    let name = OsString::from_vec(name);
    let parts: Vec<Component<'_>> = Path::new(&name).components().collect();
    match parts.as_slice() {
        [Component::Normal(only)] if *only == OsStr::new(&name) => Ok(name),
        _ => Err(Malformed::new("dropped file", "its name is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> DroppedFile {
        DroppedFile {
            directory: "/var/tmp/x".into(),
            name: name.into(),
            hidden: ".taken-00".into(),
            inode: 7,
            born_ns: Some(-1),
            modified_ns: 3,
            size: 2,
        }
    }

    #[test]
    fn what_is_noted_comes_back_as_written() {
        let files = vec![file("a"), DroppedFile { born_ns: None, ..file("b\n") }];
        assert_eq!(DroppedFile::all_from_bytes(&DroppedFile::all_to_bytes(&files)), Ok(files));
    }

    #[test]
    fn a_name_that_leaves_its_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(DroppedFile::all_from_bytes(&DroppedFile::all_to_bytes(&[file(name)])).is_err(), "{name}");
        }
        let relative = DroppedFile { directory: "x".into(), ..file("a") };
        assert!(DroppedFile::all_from_bytes(&DroppedFile::all_to_bytes(&[relative])).is_err());
    }
}
