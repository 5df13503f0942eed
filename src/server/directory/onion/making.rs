//! The key of the onion service: made so that it is durable before anybody hears of its address, and compared with that
//! address ever after.

use std::fs::{self, File};
use std::path::Path;

use rand_core::CryptoRngCore;

use super::super::{Directory, DirectoryError, io, write_file};
use super::{FILE, TOR};
use crate::crypto::dh::SecretKey;
use crate::net::tor::identity;
use crate::wire::address::ServerAddress;

impl Directory {
    /// Makes the directory of a server that is an onion service, with fresh keys for both. Needs no network.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`], whatever it is that exists; `OnionKey`; `Io`.
    pub fn create_onion(path: &Path, port: u16, rng: &mut impl CryptoRngCore) -> Result<Self, DirectoryError> {
        let key = SecretKey::random(rng);
        let public = key.public();
        Self::create_with(path, key, |scratch| {
            let name = make_key(&scratch.join(TOR))?;
            let address = ServerAddress::new(&name, port, public).map_err(DirectoryError::Address)?;
            write(scratch, &address).map_err(io("writing its onion address"))?;
            Ok(address)
        })
    }

    /// Where clients find the server as an onion service, once its key was found to be the one of that address. Where there
    /// is none yet, it is made, with `port`; whoever asks must have the store open, so that nobody else does. The
    /// private network is as in [`Setup`](crate::net::tor::Setup).
    ///
    /// # Errors
    /// [`DirectoryError::OtherOnion`] where the key is another one or is gone; `OnionKey`, `Damaged`, `Io`.
    pub fn onion_or_new(&self, port: u16, private_network: Option<&Path>) -> Result<ServerAddress, DirectoryError> {
        match self.onion() {
            Ok(address) => {
                // Arti would make the directory, and that be in the way of its copy.
                let name = match self.tor().symlink_metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    _ => identity::name(&self.tor(), private_network).map_err(DirectoryError::OnionKey)?,
                };
                if name.as_deref() == Some(address.host()) {
                    return Ok(address);
                }
                Err(DirectoryError::OtherOnion { expected: address.host().to_owned(), found: name })
            }
            Err(DirectoryError::NoOnion) => self.make_onion(port),
            Err(error) => Err(error),
        }
    }

    /// A crash leaves nothing, or `tor.new/`, or `tor/` with a key that nobody knows of: that one is taken then, as is one
    /// that a person has put there.
    fn make_onion(&self, port: u16) -> Result<ServerAddress, DirectoryError> {
        if self.tor().symlink_metadata().is_err() {
            let scratch = self.path.join(format!("{TOR}.new"));
            match fs::remove_dir_all(&scratch) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("removing tor.new")(error)),
                _ => {}
            }
            make_key(&scratch)?;
            fs::rename(&scratch, self.tor()).map_err(io("moving tor/ into place"))?;
        }
        let name = make_key(&self.tor())?;
        let address = ServerAddress::new(&name, port, self.key.public()).map_err(DirectoryError::Address)?;
        write(&self.path, &address).map_err(io("writing its onion address"))?;
        Ok(address)
    }
}

/// Makes the key in the directory `tor`, or takes the one that is there, so that a power failure does not take it, and
/// tells its name.
fn make_key(tor: &Path) -> Result<String, DirectoryError> {
    let name = identity::make(tor).map_err(DirectoryError::OnionKey)?;
    // Arti does not.
    sync_all(tor).map_err(io("syncing tor/"))?;
    Ok(name)
}

/// Syncs a directory with all that is in it.
fn sync_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

/// Writes the file `onion` into `directory`. It is there whole or not at all, and by then all else in there is durable.
fn write(directory: &Path, address: &ServerAddress) -> io::Result<()> {
    // With the key that is there before it in the directory.
    File::open(directory)?.sync_all()?;
    let scratch = directory.join(format!("{FILE}.new"));
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let text = format!(
        "# As which onion service this server is found. The key is in {TOR}/.\n{FILE} {}\n",
        address.host_port()
    );
    write_file(&scratch, &text)?;
    fs::rename(&scratch, directory.join(FILE))?;
    File::open(directory)?.sync_all()
}
