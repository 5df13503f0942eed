//! In place of `onion`, where this program was built without Tor.

use std::path::{Path, PathBuf};

use crate::app::failure::{Exit, Failure};
use crate::net::incoming::Door;
use crate::server::directory::Directory;
use crate::wire::address::ServerAddress;

/// There is none.
pub(super) enum Onion {}

/// Refuses.
pub(super) fn create(_: &Path, _: u16) -> Result<Directory, Failure> {
    Err(no_tor())
}

/// Refuses.
pub(super) fn prepare(_: &Path, _: &Directory, _: Option<PathBuf>) -> Result<Onion, Failure> {
    Err(no_tor())
}

impl Onion {
    pub(super) fn address(&self) -> &ServerAddress {
        match *self {}
    }

    pub(super) fn open(self) -> Door {
        match self {}
    }
}

fn no_tor() -> Failure {
    Failure::new(
        Exit::Usage,
        "--onion",
        "this program was built without Tor (the cargo feature `tor`)",
        "Build it with that feature, or put another Tor in front of it (docs/onion-service.md).",
    )
}
