//! The server as an onion service.

use std::path::{Path, PathBuf};

use rand_core::OsRng;

use super::failures::directory_failure;
use crate::app::failure::{Exit, Failure};
use crate::limits::ONION_PORT;
use crate::net::incoming::Door;
use crate::net::tor::{self, Setup, Tor};
use crate::server::directory::Directory;
use crate::wire::address::ServerAddress;

/// An onion service whose key is there, and the right one.
pub(super) struct Onion {
    directory: PathBuf,
    address: ServerAddress,
    private_network: Option<PathBuf>,
}

/// Makes a server's directory with the key of an onion service.
pub(super) fn create(dir: &Path, port: u16) -> Result<Directory, Failure> {
    Directory::create_onion(dir, port, &mut OsRng).map_err(|error| directory_failure("making", dir, &error))
}

/// The directory's onion service, which is made where there is none.
pub(super) fn prepare(dir: &Path, directory: &Directory, private_network: Option<PathBuf>) -> Result<Onion, Failure> {
    if let Some(path) = &private_network {
        tor::check_private_network(path).map_err(|problem| {
            let remedy = "It is the configuration of a Tor network for tests, in TOML. The public network needs none.";
            Failure::new(Exit::Config, format!("reading {}", path.display()), problem, remedy)
        })?;
        tracing::warn!("a PRIVATE Tor network is used, by {}: it is for tests and hides nothing", path.display());
    }
    let address = directory.onion_or_new(ONION_PORT, private_network.as_deref());
    let address = address.map_err(|error| directory_failure("opening", dir, &error))?;
    Ok(Onion { directory: directory.tor(), address, private_network })
}

impl Onion {
    /// Where clients find it.
    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Starts Tor and publishes the service. Needs a running tokio runtime.
    pub(super) fn open(self) -> Door {
        tracing::info!("connecting to Tor for the onion service {}", self.address.host_port());
        let setup = Setup { directory: self.directory, private_network: self.private_network, is_scheduled: false };
        let tor = Tor::start(setup);
        tor::onion::publish(tor, self.address.host().to_owned(), self.address.port())
    }
}
