//! The address as an onion service: the file `onion`. With the cargo feature `tor` there is `making`, for the key in `tor/`.
//!
//! The file tells the address where the key cannot be asked (while the server runs, in a build without Tor), and it is what
//! the key is compared with: a key that is lost is never replaced by a new one without a word.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use super::{Directory, DirectoryError, field, io};
use crate::limits::ONION_FILE_BYTES_MAX;
use crate::wire::Malformed;
use crate::wire::address::ServerAddress;

#[cfg(feature = "tor")]
mod making;

const FILE: &str = "onion";
const TOR: &str = "tor";

impl Directory {
    /// What Tor keeps.
    pub fn tor(&self) -> PathBuf {
        self.path.join(TOR)
    }

    /// Where clients find the server as an onion service, as the file tells it.
    ///
    /// # Errors
    /// [`DirectoryError::NoOnion`] where there is no such file; `Damaged`; `Io`.
    pub fn onion(&self) -> Result<ServerAddress, DirectoryError> {
        let mut text = String::new();
        match File::open(self.path.join(FILE)) {
            Ok(file) => {
                file.take(ONION_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData => DirectoryError::Damaged(Malformed::new(FILE, "it is not text")),
                    _ => io("reading its onion address")(error),
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DirectoryError::NoOnion),
            Err(error) => return Err(io("opening its onion address")(error)),
        };
        let damaged = |problem| DirectoryError::Damaged(Malformed::new(FILE, problem));
        let name = field(&text, FILE, FILE).map_err(DirectoryError::Damaged)?;
        let address = ServerAddress::from_host_port(name, self.key.public()).map_err(|error| damaged(error.problem))?;
        if address.is_onion() { Ok(address) } else { Err(damaged("its name is not that of an onion service")) }
    }
}

#[cfg(test)]
mod tests;
