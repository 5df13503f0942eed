//! The command line of `chatterbox-server`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use rand_core::OsRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::failure::{Exit, Failure};
use super::process::{self, StopSignals};
use crate::limits::{SERVER_CONNECTIONS_MAX, SERVER_SPARE_DESCRIPTORS, STORE_READERS_MAX};
use crate::net::incoming;
use crate::server::bounds::Bounds;
use crate::server::directory::{Directory, DirectoryError};
use crate::server::listener;
use crate::server::store::rocks::OpenError;

const PROGRAM: &str = "chatterbox-server";

/// The Chatterbox home server: accounts, prekeys and encrypted envelopes
///
/// It keeps what people send to each other while their daemons are away, and can
/// read none of it. It needs a directory, an address under which clients reach it,
/// and no configuration:
///
///   chatterbox-server init /var/lib/chatterbox --address chat.example:1984
///   chatterbox-server run /var/lib/chatterbox --listen 0.0.0.0:1984
///
/// The line that `init` prints is what people give to `chatterbox init --server`.
///
/// Exit codes (sysexits.h):
///    0  success
///   64  the command line is wrong
///   65  an address or the key's file is malformed
///   66  there is no server in the directory
///   69  the port is taken
///   73  the directory exists already
///   74  reading or writing failed
///   75  another process uses the directory
///   77  permission was refused
///   78  the directory is of another version, or others may read its key
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a server's directory with a fresh key, and print its address.
    ///
    /// The key never changes: it is part of the address that people hand around. Keep a copy of the directory's file
    /// `server`, and keep it secret. The directory must not exist yet.
    Init {
        /// The directory to make.
        dir: PathBuf,
        /// Where clients reach the server: a host name, an IP address (IPv6 in brackets) or an onion name, and a port.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Print the address of a server, as `init` did.
    Address {
        /// The server's directory.
        dir: PathBuf,
    },
    /// Serve until SIGTERM or SIGINT.
    ///
    /// Logs to stderr; the line "listening on ADDRESS" says that connections are accepted. Stopping answers what is
    /// under way and takes at most ten seconds. What was acknowledged survives any crash.
    Run {
        /// The server's directory.
        dir: PathBuf,
        /// The address and port to listen on; port 0 takes a free one, which the log tells.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1984")]
        listen: SocketAddr,
    },
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli: Cli = match process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match &cli.command {
        Command::Init { dir, address } => init(dir, address),
        Command::Address { dir } => print_address(dir),
        Command::Run { dir, listen } => run(dir, *listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM),
    }
}

fn init(dir: &Path, address: &str) -> Result<(), Failure> {
    let directory =
        Directory::create(dir, address, &mut OsRng).map_err(|error| directory_failure("making", dir, &error))?;
    say(&directory)
}

fn print_address(dir: &Path) -> Result<(), Failure> {
    say(&open(dir)?)
}

fn say(directory: &Directory) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let said = writeln!(stdout, "{}", directory.address()).and_then(|()| stdout.flush());
    said.map_err(|error| Failure::io("printing the address", &error, ""))
}

fn run(dir: &Path, listen: SocketAddr) -> Result<(), Failure> {
    process::log_to_stderr();
    process::keep_files_private();
    let directory = open(dir)?;
    let store = directory.open_store().map_err(|error| store_failure(dir, &error))?;
    let bounds = Bounds { connections: connections_that_fit(), ..Bounds::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(STORE_READERS_MAX)
        .build()
        .map_err(|error| Failure::io("starting the server's threads", &error, ""))?;
    runtime.block_on(async {
        let stop = StopSignals::listen().map_err(|error| Failure::io("listening for signals", &error, ""))?;
        let listener = TcpListener::bind(listen).await.map_err(|error| listen_failure(listen, &error))?;
        let at = listener.local_addr().map_err(|error| listen_failure(listen, &error))?;
        tracing::info!("listening on {at}");
        listener::run(vec![incoming::tcp(listener)], directory.key().clone(), Arc::new(store), bounds, stop.first())
            .await;
        tracing::info!("stopped");
        Ok(())
    })
}

fn open(dir: &Path) -> Result<Directory, Failure> {
    Directory::open(dir).map_err(|error| directory_failure("opening", dir, &error))
}

/// Raises this process's limit of descriptors as far as needed and allowed, and tells how many connections fit: at that
/// number new ones are closed, where at the limit itself RocksDB could not open a file.
fn connections_that_fit() -> usize {
    let wanted = SERVER_CONNECTIONS_MAX as u64 + SERVER_SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let current = limit.current.unwrap_or(wanted);
    let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
    let available = match current < allowed && setrlimit(Resource::Nofile, raised).is_ok() {
        true => allowed,
        false => current,
    };
    let spare = SERVER_SPARE_DESCRIPTORS.min(available / 2);
    let fit = usize::try_from(available - spare).map_or(SERVER_CONNECTIONS_MAX, |fit| fit.min(SERVER_CONNECTIONS_MAX));
    if fit < SERVER_CONNECTIONS_MAX {
        tracing::warn!(connections = fit, "the limit of open files (ulimit -n) allows fewer connections");
    }
    fit
}

fn directory_failure(doing: &str, dir: &Path, error: &DirectoryError) -> Failure {
    let doing = format!("{doing} {}", dir.display());
    match error {
        DirectoryError::Exists => {
            let remedy = "Take another name; if it is a server, `chatterbox-server address DIR` prints its address.";
            Failure::new(Exit::CannotCreate, doing, error, remedy)
        }
        DirectoryError::NotAServer => {
            Failure::new(Exit::NoInput, doing, error, "`chatterbox-server init DIR --address HOST:PORT` makes one.")
        }
        DirectoryError::Exposed { .. } => Failure::new(
            Exit::Config,
            doing,
            error,
            "If nobody else has read it, `chmod 600` it; if somebody may have, make a new server.",
        ),
        DirectoryError::Damaged(malformed) if malformed.what == "server address" => {
            Failure::new(Exit::Data, doing, malformed, "An address is HOST:PORT, for example chat.example:1984.")
        }
        DirectoryError::Damaged(_) => Failure::new(Exit::Data, doing, error, "Restore the file from a copy."),
        DirectoryError::Io { source, .. } => {
            let exit = Failure::io("", source, "").exit();
            Failure::new(exit, doing, error, "")
        }
    }
}

fn store_failure(dir: &Path, error: &OpenError) -> Failure {
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

fn listen_failure(listen: SocketAddr, error: &io::Error) -> Failure {
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
