//! What one record of the journal says: a transaction, which is a list of steps (design, section 9, rule 2).
//!
//! The log's framing around these bytes (length, checksum, generation, batch) is `disk::journal::format`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::generated::journal as pb;
use super::{Malformed, array, decode, required};

/// What tells one file, as it was at one moment, from another that later stands under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The filesystem, `st_dev`.
    pub device: u64,
    /// The inode; ext4 reuses its number at once, which is why the rest is here.
    pub inode: u64,
    /// When the inode was made, nanoseconds since 1970, where the filesystem keeps that.
    pub born_ns: Option<i64>,
    /// When the content was last written, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Bytes of content.
    pub size: u64,
}

/// What tells one directory from another that later stands under its name, on the root's filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryIdentity {
    /// The inode.
    pub inode: u64,
    /// When it was made, nanoseconds since 1970, where the filesystem keeps that.
    pub born_ns: Option<i64>,
}

/// Steps that must happen together. They are applied in order, each is idempotent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In the order of their application.
    pub steps: Vec<Step>,
}

/// One change to the directory. All paths are relative to the root and made of plain components; the parser refuses
/// others. `Debug` shows the kind only.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Atomically replaces a state file; missing parents are made.
    Put {
        /// The file.
        path: PathBuf,
        /// All of its new content.
        bytes: Zeroizing<Vec<u8>>,
        /// Whether the old content must be overwritten before it is gone.
        secret: bool,
    },
    /// Adds to a state file, whose length was `offset`. Written at that place, so that a second time changes nothing.
    Append {
        /// The file; made if it is missing.
        path: PathBuf,
        /// Where the addition begins.
        offset: u64,
        /// The addition.
        bytes: Vec<u8>,
    },
    /// A file that appears whole under its final name and never overwrites another.
    Place {
        /// The final name.
        path: PathBuf,
        /// Where the file is prepared. Its absence tells, within one boot, that the step was applied: a name that is
        /// never used twice, such as a random id.
        scratch: PathBuf,
        /// All of its content.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// Bytes of a large content, at their place in a file that grows until it is whole and moves then. Written when the step is
    /// applied, and not kept until the checkpoint: there may be many.
    Write {
        /// The file; made if it is missing. Nobody but the daemon reads it.
        path: PathBuf,
        /// Where they belong; what is before them may not be there yet.
        offset: u64,
        /// The bytes.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// A file that was written and synced before the record, with the directory that it is in, gets its final name, and never
    /// overwrites another. The record does not hold its content.
    Move {
        /// The final name.
        path: PathBuf,
        /// Where it stands: a name that is never used twice. Its absence tells that the step was applied.
        from: PathBuf,
    },
    /// A person's file, whose bytes this transaction or a synced copy holds, goes away, unless it is not the one that was read.
    Take {
        /// Its name.
        path: PathBuf,
        /// Where it is moved before it is compared. Never used twice, either.
        scratch: PathBuf,
        /// The file that was read.
        identity: FileIdentity,
        /// SHA-256 of what was read.
        sha256: [u8; 32],
        /// The directory that it was read in; records of the first version do not have it.
        directory: Option<DirectoryIdentity>,
        /// Whether the file had no other name: then it is looked for under another one where its own is gone.
        only_link: bool,
    },
    /// A secret that served is overwritten and unlinked. Absent is fine.
    Erase {
        /// The file.
        path: PathBuf,
    },
    /// A person's message goes, unless it is not the file that was found, or has another name by now. What is to be overwritten
    /// is moved aside: in the scratch directory the checkpoint does that, elsewhere whoever recorded it.
    Expire {
        /// Its name.
        path: PathBuf,
        /// Where it is moved before it is compared: a name that is never used twice.
        aside: PathBuf,
        /// The file that was found.
        identity: FileIdentity,
    },
    /// A file is unlinked. Absent is fine, and so is a directory, which stays.
    Remove {
        /// The file.
        path: PathBuf,
    },
    /// A small file of ours in a directory that a person made, wherever that is now. Nothing happens where the directory
    /// is gone, or the name is taken.
    Mark {
        /// Its name.
        path: PathBuf,
        /// The directory.
        directory: DirectoryIdentity,
        /// All of its content.
        bytes: Vec<u8>,
    },
    /// A directory is there afterwards, with its parents.
    MakeDirectory {
        /// The directory.
        path: PathBuf,
    },
}

impl Transaction {
    /// Parses a record's payload.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let transaction: pb::Transaction = decode("journal record", bytes)?;
        Ok(Self { steps: transaction.steps.into_iter().map(Step::parse).collect::<Result<_, _>>()? })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut transaction = pb::Transaction { steps: self.steps.iter().map(Step::generated).collect() };
        let bytes = Zeroizing::new(transaction.encode_to_vec());
        for step in &mut transaction.steps {
            match &mut step.kind {
                Some(pb::step::Kind::Put(put)) => put.content.zeroize(),
                Some(pb::step::Kind::Place(place)) => place.content.zeroize(),
                Some(pb::step::Kind::Write(write)) => write.content.zeroize(),
                _ => {}
            }
        }
        bytes
    }
}

impl Step {
    fn parse(step: pb::Step) -> Result<Self, Malformed> {
        use pb::step::Kind;
        Ok(match required("journal step", step.kind)? {
            Kind::Put(put) => {
                Self::Put { path: path(put.path)?, bytes: Zeroizing::new(put.content), secret: put.secret }
            }
            Kind::Append(append) => {
                Self::Append { path: path(append.path)?, offset: append.offset, bytes: append.content }
            }
            Kind::Place(place) => Self::Place {
                path: path(place.path)?,
                scratch: path(place.scratch)?,
                bytes: Zeroizing::new(place.content),
            },
            Kind::Write(write) => {
                Self::Write { path: path(write.path)?, offset: write.offset, bytes: Zeroizing::new(write.content) }
            }
            Kind::Move(moved) => Self::Move { path: path(moved.path)?, from: path(moved.from)? },
            Kind::Take(take) => Self::Take {
                path: path(take.path)?,
                scratch: path(take.scratch)?,
                identity: identity(required("journal file identity", take.identity)?),
                sha256: array("journal file hash", &take.sha256)?,
                directory: take.directory.map(directory),
                only_link: take.only_link,
            },
            Kind::Erase(bytes) => Self::Erase { path: path(bytes)? },
            Kind::Expire(expire) => Self::Expire {
                path: path(expire.path)?,
                aside: path(expire.aside)?,
                identity: identity(required("journal file identity", expire.identity)?),
            },
            Kind::Remove(bytes) => Self::Remove { path: path(bytes)? },
            Kind::MakeDirectory(bytes) => Self::MakeDirectory { path: path(bytes)? },
            Kind::Mark(mark) => Self::Mark {
                path: path(mark.path)?,
                directory: directory(required("journal directory", mark.directory)?),
                bytes: mark.content,
            },
        })
    }

    fn generated(&self) -> pb::Step {
        use pb::step::Kind;
        let kind = match self {
            Self::Put { path, bytes, secret } => {
                Kind::Put(pb::Put { path: raw(path), content: bytes.to_vec(), secret: *secret })
            }
            Self::Append { path, offset, bytes } => {
                Kind::Append(pb::Append { path: raw(path), offset: *offset, content: bytes.clone() })
            }
            Self::Place { path, scratch, bytes } => {
                Kind::Place(pb::Place { path: raw(path), scratch: raw(scratch), content: bytes.to_vec() })
            }
            Self::Write { path, offset, bytes } => {
                Kind::Write(pb::Write { path: raw(path), offset: *offset, content: bytes.to_vec() })
            }
            Self::Move { path, from } => Kind::Move(pb::Move { path: raw(path), from: raw(from) }),
            Self::Take { path, scratch, identity, sha256, directory, only_link } => Kind::Take(pb::Take {
                path: raw(path),
                scratch: raw(scratch),
                identity: Some(generated_identity(identity)),
                sha256: sha256.to_vec(),
                directory: directory
                    .map(|DirectoryIdentity { inode, born_ns }| pb::DirectoryIdentity { inode, born_ns }),
                only_link: *only_link,
            }),
            Self::Erase { path } => Kind::Erase(raw(path)),
            Self::Expire { path, aside, identity } => Kind::Expire(pb::Expire {
                path: raw(path),
                aside: raw(aside),
                identity: Some(generated_identity(identity)),
            }),
            Self::Remove { path } => Kind::Remove(raw(path)),
            Self::MakeDirectory { path } => Kind::MakeDirectory(raw(path)),
            Self::Mark { path, directory: DirectoryIdentity { inode, born_ns }, bytes } => Kind::Mark(pb::Mark {
                path: raw(path),
                directory: Some(pb::DirectoryIdentity { inode: *inode, born_ns: *born_ns }),
                content: bytes.clone(),
            }),
        };
        pb::Step { kind: Some(kind) }
    }

    /// The files and directories it names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (path, scratch) = match self {
            Self::Place { path, scratch, .. } | Self::Take { path, scratch, .. } => (path, Some(scratch)),
            Self::Move { path, from } => (path, Some(from)),
            Self::Expire { path, aside, .. } => (path, Some(aside)),
            Self::Put { path, .. }
            | Self::Append { path, .. }
            | Self::Write { path, .. }
            | Self::Erase { path }
            | Self::Remove { path }
            | Self::Mark { path, .. }
            | Self::MakeDirectory { path } => (path, None),
        };
        std::iter::once(path.as_path()).chain(scratch.map(PathBuf::as_path))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Put { .. } => "Put(_)",
            Self::Append { .. } => "Append(_)",
            Self::Place { .. } => "Place(_)",
            Self::Write { .. } => "Write(_)",
            Self::Move { .. } => "Move(_)",
            Self::Take { .. } => "Take(_)",
            Self::Erase { .. } => "Erase(_)",
            Self::Expire { .. } => "Expire(_)",
            Self::Remove { .. } => "Remove(_)",
            Self::MakeDirectory { .. } => "MakeDirectory(_)",
            Self::Mark { .. } => "Mark(_)",
        })
    }
}

/// Whether `path` stays below the directory it is joined to: not empty, relative, plain components only, no NUL.
pub fn stays_below(path: &Path) -> bool {
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    plain && !path.as_os_str().is_empty() && !path.as_os_str().as_bytes().contains(&0)
}

fn path(bytes: Vec<u8>) -> Result<PathBuf, Malformed> {
    let path = PathBuf::from(OsString::from_vec(bytes));
    stays_below(&path).then_some(path).ok_or(Malformed::new("journal path", "leaves the root"))
}

fn raw(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn directory(identity: pb::DirectoryIdentity) -> DirectoryIdentity {
    DirectoryIdentity { inode: identity.inode, born_ns: identity.born_ns }
}

fn generated_identity(identity: &FileIdentity) -> pb::FileIdentity {
    pb::FileIdentity {
        device: identity.device,
        inode: identity.inode,
        born_ns: identity.born_ns,
        modified_ns: identity.modified_ns,
        size: identity.size,
    }
}

fn identity(identity: pb::FileIdentity) -> FileIdentity {
    FileIdentity {
        device: identity.device,
        inode: identity.inode,
        born_ns: identity.born_ns,
        modified_ns: identity.modified_ns,
        size: identity.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_path() -> impl Strategy<Value = PathBuf> {
        proptest::collection::vec(proptest::collection::vec(1u8.., 1..12), 1..4)
            .prop_map(|parts| parts.iter().map(|part| OsString::from_vec(part.clone())).collect::<PathBuf>())
            .prop_filter("plain", |path| stays_below(path))
    }

    fn any_bytes() -> impl Strategy<Value = Zeroizing<Vec<u8>>> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Zeroizing::new)
    }

    fn any_identity() -> impl Strategy<Value = FileIdentity> {
        any::<(u64, u64, Option<i64>, i64, u64)>().prop_map(|(device, inode, born_ns, modified_ns, size)| {
            FileIdentity { device, inode, born_ns, modified_ns, size }
        })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any_path(), any_bytes(), any::<bool>()).prop_map(|(path, bytes, secret)| Step::Put {
                path,
                bytes,
                secret
            }),
            (any_path(), any::<u64>(), any_bytes()).prop_map(|(path, offset, bytes)| Step::Append {
                path,
                offset,
                bytes: bytes.to_vec()
            }),
            (any_path(), any_path(), any_bytes()).prop_map(|(path, scratch, bytes)| Step::Place {
                path,
                scratch,
                bytes
            }),
            (any_path(), any_path(), any_identity(), any::<[u8; 32]>(), any::<(Option<(u64, Option<i64>)>, bool)>())
                .prop_map(|(path, scratch, identity, sha256, (directory, only_link))| {
                    let directory = directory.map(|(inode, born_ns)| DirectoryIdentity { inode, born_ns });
                    Step::Take { path, scratch, identity, sha256, directory, only_link }
                }),
            (any_path(), any::<u64>(), any_bytes()).prop_map(|(path, offset, bytes)| Step::Write {
                path,
                offset,
                bytes
            }),
            (any_path(), any_path()).prop_map(|(path, from)| Step::Move { path, from }),
            any_path().prop_map(|path| Step::Erase { path }),
            (any_path(), any_path(), any_identity()).prop_map(|(path, aside, identity)| Step::Expire {
                path,
                aside,
                identity
            }),
            any_path().prop_map(|path| Step::Remove { path }),
            any_path().prop_map(|path| Step::MakeDirectory { path }),
            (any_path(), any::<(u64, Option<i64>)>(), any_bytes()).prop_map(|(path, (inode, born_ns), bytes)| {
                Step::Mark { path, directory: DirectoryIdentity { inode, born_ns }, bytes: bytes.to_vec() }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(steps in proptest::collection::vec(any_step(), 0..8)) {
            let transaction = Transaction { steps };
            prop_assert_eq!(Transaction::from_bytes(&transaction.to_bytes()), Ok(transaction));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Transaction::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        for bad in ["", "/etc/passwd", "..", "a/../b", "./a", "a\0b"] {
            let transaction = Transaction { steps: vec![Step::Remove { path: bad.into() }] };
            assert!(Transaction::from_bytes(&transaction.to_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_content_and_no_names() {
        let step = Step::Put { path: "keys/x".into(), bytes: Zeroizing::new(b"secret".to_vec()), secret: true };
        assert_eq!(format!("{step:?}"), "Put(_)");
    }
}
