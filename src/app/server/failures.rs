//! What can go wrong with a server's directory, its database and its port: exit codes and remedies.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::app::failure::{Exit, Failure};
use crate::server::directory::DirectoryError;
use crate::server::store::rocks::OpenError;

pub(super) fn directory_failure(doing: &str, dir: &Path, error: &DirectoryError) -> Failure {
    let doing = format!("{doing} {}", dir.display());
    match error {
        DirectoryError::Exists => {
            let remedy = "Take another name; if it is a server, `chatterbox-server address DIR` prints its address.";
            Failure::new(Exit::CannotCreate, doing, error, remedy)
        }
        DirectoryError::NotAServer => {
            Failure::new(Exit::NoInput, doing, error, "`chatterbox-server init DIR --onion` makes one.")
        }
        DirectoryError::NoOnion => {
            Failure::new(Exit::NoInput, doing, error, "`chatterbox-server run DIR --onion` makes it one.")
        }
        DirectoryError::Exposed { .. } => Failure::new(
            Exit::Config,
            doing,
            error,
            "If nobody else has read it, `chmod 600` it; if somebody may have, make a new server.",
        ),
        DirectoryError::Address(_) => {
            Failure::new(Exit::Data, doing, error, "An address is HOST:PORT, for example chat.example:1984.")
        }
        DirectoryError::OnionKey(_) => {
            let remedy = "Nobody else may read the key, nor write to a directory above it (chmod go-rwx, chown), and nothing \
                          but the key may stand in its place.";
            Failure::new(Exit::Config, doing, error, remedy)
        }
        DirectoryError::OtherOnion { .. } => {
            let remedy = "Restore the directory tor and the file onion from one copy. Without that key the address is lost; if \
                          it is, remove the file onion for another one.";
            Failure::new(Exit::Data, doing, error, remedy)
        }
        DirectoryError::Damaged(_) => Failure::new(Exit::Data, doing, error, "Restore the file from a copy."),
        DirectoryError::Io { source, .. } => {
            let exit = Failure::io("", source, "").exit();
            Failure::new(exit, doing, error, "")
        }
    }
}

pub(super) fn store_failure(dir: &Path, error: &OpenError) -> Failure {
    let doing = format!("opening the database in {}", dir.display());
    match error {
        OpenError::InUse => Failure::new(
            Exit::TemporaryFailure,
            doing,
            error,
            "One process serves a directory: stop the other, or use another directory.",
        ),
        OpenError::Format { .. } => {
            Failure::new(Exit::Config, doing, error, "Use the version of chatterbox-server that wrote it.")
        }
        OpenError::Failed(_) => Failure::new(
            Exit::Io,
            doing,
            error,
            "Check the disk and the permissions. Nothing was changed; a damaged database is not repaired by guessing.",
        ),
    }
}

pub(super) fn listen_failure(listen: SocketAddr, error: &io::Error) -> Failure {
    let doing = format!("listening on {listen}");
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(
            Exit::Unavailable,
            doing,
            error,
            "Another program has this port: stop it, or --listen elsewhere.",
        ),
        io::ErrorKind::AddrNotAvailable => {
            Failure::new(Exit::Unavailable, doing, error, "This machine does not have that address.")
        }
        _ => Failure::io(doing, error, ""),
    }
}
