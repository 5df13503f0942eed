//! The command line of `chatterbox-server`.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Parser, Subcommand};
use rand_core::OsRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use self::failures::{directory_failure, listen_failure, store_failure};
use self::onion::Onion;
#[cfg(not(feature = "tor"))]
use self::without_tor as onion;
use super::failure::Failure;
use super::process::{self, StopSignals};
use crate::limits::{ONION_PORT, SERVER_CONNECTIONS_MAX, SERVER_SPARE_DESCRIPTORS, STORE_READERS_MAX};
use crate::net::incoming;
use crate::server::bounds::Bounds;
use crate::server::directory::Directory;
use crate::server::listener;
use crate::wire::address::ServerAddress;

mod failures;
#[cfg(feature = "tor")]
mod onion;
#[cfg(not(feature = "tor"))]
mod without_tor;

const PROGRAM: &str = "chatterbox-server";

/// Where to listen, unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1984);

/// The Chatterbox home server: accounts, prekeys and encrypted envelopes
///
/// It keeps what people send to each other while their daemons are away, and can
/// read none of it. It needs a directory and no configuration. As an onion service
/// of Tor it needs no open port, no name and no fixed address either:
///
///   chatterbox-server init /var/lib/chatterbox --onion
///   chatterbox-server run /var/lib/chatterbox --onion
///
/// Or it listens where clients reach it:
///
///   chatterbox-server init /var/lib/chatterbox --address chat.example:1984
///   chatterbox-server run /var/lib/chatterbox --listen 0.0.0.0:1984
///
/// The line that `init` prints is what people give to `chatterbox init --server`.
///
/// Exit codes (sysexits.h):
///    0  success
///    1  with --onion: Tor's directory authorities call this version too old; what
///       came in by --listen ends, too
///   64  the command line is wrong, or wants Tor, which this build is without
///   65  an address or a key's file is malformed, or a key is not the one of its
///       address
///   66  there is no server in the directory, or no onion service
///   69  the port is taken
///   73  the directory exists already
///   74  reading or writing failed
///   75  another process uses the directory
///   77  permission was refused
///   78  the directory is of another version, others may read or replace its key, or
///       Tor's configuration is wrong
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
    /// `server`, and with --onion of its directory `tor` and its file `onion`, and keep them secret. The directory must not
    /// exist yet.
    #[command(group(ArgGroup::new("where").required(true).args(["address", "onion"])))]
    Init {
        /// The directory to make.
        dir: PathBuf,
        /// Where clients reach the server: a host name, an IP address (IPv6 in brackets) or an onion name, and a port.
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        /// Make an onion service of it, whose name is known at once. This needs no network. `run` wants --onion then.
        #[arg(long)]
        onion: bool,
        /// The port of the onion service, which is none of the machine. [default: 1984]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..), requires = "onion", conflicts_with = "address")]
        port: Option<u16>,
    },
    /// Print the address of a server, as `init` did.
    Address {
        /// The server's directory.
        dir: PathBuf,
        /// The address as an onion service, as `run --onion` printed it.
        #[arg(long)]
        onion: bool,
    },
    /// Serve until SIGTERM or SIGINT.
    ///
    /// Logs to stderr; the line "listening on ADDRESS" says that connections are accepted. Stopping answers what is
    /// under way and takes at most ten seconds. What was acknowledged survives any crash.
    Run {
        /// The server's directory.
        dir: PathBuf,
        /// The address and port to listen on; port 0 takes a free one, which the log tells. With --onion there is no
        /// such port unless it is given. [default: 127.0.0.1:1984]
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Serve as an onion service of Tor, which runs in this process, and print that address. A server that was made
        /// without gets its onion name the first time, and keeps it.
        #[arg(long)]
        onion: bool,
        /// For tests: arti's configuration of a Tor network other than the public one. It hides nothing.
        #[arg(long, value_name = "FILE", hide = true, requires = "onion")]
        dangerous_private_tor_network: Option<PathBuf>,
    },
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli: Cli = match process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match cli.command {
        Command::Init { dir, address, onion: _, port } => init(&dir, address.as_deref(), port.unwrap_or(ONION_PORT)),
        Command::Address { dir, onion } => print_address(&dir, onion),
        Command::Run { dir, listen, onion, dangerous_private_tor_network } => {
            run(&dir, listen, onion, dangerous_private_tor_network)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM),
    }
}

/// As an onion service, unless there is an address.
fn init(dir: &Path, address: Option<&str>, port: u16) -> Result<(), Failure> {
    let directory = match address {
        Some(address) => {
            Directory::create(dir, address, &mut OsRng).map_err(|error| directory_failure("making", dir, &error))?
        }
        None => onion::create(dir, port)?,
    };
    say(directory.address())
}

fn print_address(dir: &Path, onion: bool) -> Result<(), Failure> {
    let directory = open(dir)?;
    if onion {
        return say(&directory.onion().map_err(|error| directory_failure("opening", dir, &error))?);
    }
    say(directory.address())
}

fn say(address: &ServerAddress) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let said = writeln!(stdout, "{address}").and_then(|()| stdout.flush());
    said.map_err(|error| Failure::io("printing the address", &error, ""))
}

fn run(dir: &Path, listen: Option<SocketAddr>, onion: bool, private_network: Option<PathBuf>) -> Result<(), Failure> {
    process::log_to_stderr();
    process::keep_files_private();
    let directory = open(dir)?;
    let store = directory.open_store().map_err(|error| store_failure(dir, &error))?;
    let onion = if onion { Some(onion::prepare(dir, &directory, private_network)?) } else { None };
    let listen = listen.or(if onion.is_some() { None } else { Some(LISTEN) });
    match &onion {
        Some(onion) => say(onion.address())?,
        None if directory.onion().is_ok_and(|onion| onion == *directory.address()) => {
            tracing::warn!("the server's address is an onion service, which runs only with --onion");
        }
        None => {}
    }
    let bounds = Bounds { connections: connections_that_fit(), ..Bounds::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(STORE_READERS_MAX)
        .build()
        .map_err(|error| Failure::io("starting the server's threads", &error, ""))?;
    runtime.block_on(async {
        let stop = StopSignals::listen().map_err(|error| Failure::io("listening for signals", &error, ""))?;
        let mut doors = Vec::new();
        if let Some(listen) = listen {
            let listener = TcpListener::bind(listen).await.map_err(|error| listen_failure(listen, &error))?;
            let at = listener.local_addr().map_err(|error| listen_failure(listen, &error))?;
            tracing::info!("listening on {at}");
            warn_if_elsewhere(at, directory.address());
            doors.push(incoming::tcp(listener));
        }
        doors.extend(onion.map(Onion::open));
        listener::run(doors, directory.key().clone(), Arc::new(store), bounds, stop.first()).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Says where clients are told to come, if that is not here.
fn warn_if_elsewhere(at: SocketAddr, address: &ServerAddress) {
    let is_local = address.host() == "localhost" || address.host().parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_elsewhere = at.port() != address.port() || (at.ip().is_loopback() && !is_local);
    if is_elsewhere && !address.is_onion() {
        let there = address.host_port();
        tracing::warn!("clients come to {there}: unless something forwards them to {at}, name it with --listen");
    }
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
