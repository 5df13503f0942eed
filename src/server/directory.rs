//! The server's own directory, mode 0700:
//!
//! ```text
//! server   its address and secret key, mode 0600: `address HOST:PORT` and `secret HEX`, a line each
//! onion    where it is an onion service, as which: `onion NAME:PORT`, mode 0600
//! tor/     what Tor keeps; the key of the onion service is in it
//! store/   the RocksDB database; its LOCK keeps a second process out
//! ```
//!
//! `server` never changes once it is there. It is made in a directory of another name, synced, and moved into place with
//! that: after a crash there is all of it or nothing under the final name. So it is with `tor/`, and `onion` follows when
//! that is durable: an address that was told can always be served.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rand_core::CryptoRngCore;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;
use zeroize::Zeroizing;

use super::store::rocks::{OpenError, RocksStore};
use crate::crypto::dh::SecretKey;
use crate::crypto::secret::Secret;
use crate::limits::SERVER_FILE_BYTES_MAX;
use crate::wire::Malformed;
use crate::wire::address::ServerAddress;

mod onion;

const FILE: &str = "server";
const STORE: &str = "store";
const COMMENT: &str = "# The key of this Chatterbox server. Who has it can pose as the server. It is never changed.";

/// Something about the directory is not as it should be.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// There is something under the name that a new directory was to get.
    #[error("it exists already")]
    Exists,
    /// It is not there, or has no key in it.
    #[error("there is no server in it")]
    NotAServer,
    /// There is no onion service in it.
    #[error("it has no onion service")]
    NoOnion,
    /// Others than its owner may read the key.
    #[error("the file {FILE} in it may be read by others (mode {mode:03o})")]
    Exposed {
        /// The permission bits.
        mode: u32,
    },
    /// The file with the key, or that with the onion service's address, cannot be read as one.
    #[error("the file {} in it is damaged: {}", .0.what, .0.problem)]
    Damaged(Malformed),
    /// What was given as the server's address is none.
    #[error("{0}")]
    Address(Malformed),
    /// The key of the onion service can be neither made nor read.
    #[error("the key of its onion service: {0}")]
    OnionKey(String),
    /// The key of the onion service is not the one of the address that people have.
    #[error("its address is {expected}, but the key in tor/ is {}", .found.as_deref().unwrap_or("missing or damaged"))]
    OtherOnion {
        /// What people have.
        expected: String,
        /// Whose key is there.
        found: Option<String>,
    },
    /// The system refused.
    #[error("{doing}: {source}")]
    Io {
        /// Action and thing.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A server's directory, with what is in its file.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    address: ServerAddress,
    key: SecretKey,
}

impl Directory {
    /// Makes the directory with a fresh key. `host_port` is where clients will find the server.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`], whatever it is that exists; `Address` where `host_port` is not one; `Io`.
    pub fn create(path: &Path, host_port: &str, rng: &mut impl CryptoRngCore) -> Result<Self, DirectoryError> {
        let key = SecretKey::random(rng);
        let address = ServerAddress::from_host_port(host_port, key.public()).map_err(DirectoryError::Address)?;
        Self::create_with(path, key, |_| Ok(address))
    }

    /// Makes the directory in a scratch directory, to which `prepare` may add before it tells the address.
    fn create_with(
        path: &Path,
        key: SecretKey,
        prepare: impl FnOnce(&Path) -> Result<ServerAddress, DirectoryError>,
    ) -> Result<Self, DirectoryError> {
        if path.symlink_metadata().is_ok() {
            return Err(DirectoryError::Exists);
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Removed with all in it unless it was renamed.
        let scratch = tempfile::Builder::new()
            .prefix(".chatterbox-server-")
            .tempdir_in(parent)
            .map_err(io("making a directory"))?;
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o700)).map_err(io("making a directory"))?;
        let address = prepare(scratch.path())?;
        let directory = Self { path: path.to_owned(), address, key };
        directory.write(scratch.path()).map_err(io("writing the key"))?;
        renameat_with(CWD, scratch.path(), CWD, path, RenameFlags::NOREPLACE).map_err(|error| match error {
            rustix::io::Errno::EXIST => DirectoryError::Exists,
            error => io("moving the directory into place")(error.into()),
        })?;
        let _ = scratch.keep();
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io("syncing the directory above"))?;
        Ok(directory)
    }

    /// Reads an existing one.
    ///
    /// # Errors
    /// [`DirectoryError`], except `Exists`.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let mut file = match File::open(path.join(FILE)) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(DirectoryError::NotAServer);
            }
            Err(error) => return Err(io("opening the key")(error)),
        };
        let mode = file.metadata().map_err(io("reading the key"))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(DirectoryError::Exposed { mode });
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(SERVER_FILE_BYTES_MAX).read_to_string(&mut text).map_err(io("reading the key"))?;
        let (address, key) = parse(&text).map_err(DirectoryError::Damaged)?;
        Ok(Self { path: path.to_owned(), address, key })
    }

    /// Where clients find the server, with its key.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The server's transport key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Opens the store, and keeps other processes out until it is dropped.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_store(&self) -> Result<RocksStore, OpenError> {
        let path = self.path.join(STORE);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(OpenError::Failed(format!("making its directory: {error}"))),
        }
        // RocksDB syncs what is in there, but not that it is there.
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| OpenError::Failed(format!("syncing its directory: {error}")))?;
        RocksStore::open(&path)
    }

    fn write(&self, scratch: &Path) -> io::Result<()> {
        let secret = Zeroizing::new(HEXLOWER.encode(self.key.to_secret().expose()));
        let address = self.address.host_port();
        let text = Zeroizing::new(format!("{COMMENT}\naddress {address}\nsecret {}\n", *secret));
        write_file(&scratch.join(FILE), &text)?;
        File::open(scratch)?.sync_all()
    }
}

/// Writes a new file, mode 0600, and syncs it.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Io { doing, source }
}

fn parse(text: &str) -> Result<(ServerAddress, SecretKey), Malformed> {
    let secret = HEXLOWER.decode(field(text, FILE, "secret")?.as_bytes()).map(Zeroizing::new).ok();
    let secret = secret.and_then(|secret| Secret::from_slice(&secret));
    let key = SecretKey::from_secret(&secret.ok_or(Malformed::new(FILE, "the secret is not 64 lowercase hex digits"))?);
    let address = ServerAddress::from_host_port(field(text, FILE, "address")?, key.public());
    Ok((address.map_err(|error| Malformed::new(FILE, error.problem))?, key))
}

/// What stands behind `name` in the text of `file`.
fn field<'a>(text: &'a str, file: &'static str, name: &str) -> Result<&'a str, Malformed> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .ok_or(Malformed::new(file, "a line is missing"))
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_directory_comes_back_as_made_and_is_private() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("server");
        let made = Directory::create(&path, "Chat.example:1984", &mut OsRng).unwrap();
        let opened = Directory::open(&path).unwrap();
        assert_eq!(opened.address(), made.address());
        assert_eq!(opened.key().public(), made.key().public());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing else is left");
        assert!(matches!(Directory::create(&path, "other:1", &mut OsRng), Err(DirectoryError::Exists)));
        assert_eq!(Directory::open(&path).unwrap().address(), made.address());
    }

    #[test]
    fn each_fault_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("server");
        assert!(matches!(Directory::open(&path), Err(DirectoryError::NotAServer)));
        assert!(matches!(Directory::create(&path, "noport", &mut OsRng), Err(DirectoryError::Address(_))));
        assert!(!path.exists());
        Directory::create(&path, "host:1", &mut OsRng).unwrap();
        fs::set_permissions(path.join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Exposed { mode: 0o640 })));
        fs::set_permissions(path.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["", "address host:1\nsecret 00\n", "address host\nsecret 00\n"] {
            fs::write(path.join(FILE), damaged).unwrap();
            assert!(matches!(Directory::open(&path), Err(DirectoryError::Damaged(_))));
        }
    }
}
