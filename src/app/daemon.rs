//! The command line of `chatterboxd`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::client::causes;
use super::failure::{Exit, Failure};
use super::process::{self, StopSignals};
use super::settings::{Settings, SettingsError};
use crate::client::daemon::{self, DaemonError};
use crate::client::root::Root;
use crate::client::state::StateError;
use crate::client::status_file;
use crate::disk::lock::LockError;
use crate::net::dialer::Plan;

const PROGRAM: &str = "chatterboxd";

/// The Chatterbox daemon: sends what is dropped into $ROOT/outbox and writes what arrives to $ROOT/conversations.
///
/// It runs in the foreground, logs to stderr, and stops cleanly on SIGTERM or SIGINT. `chatterbox init` makes the
/// directory; `chatterbox status` tells how the daemon is doing, and the file $ROOT/status says the same.
///
///   chatterboxd --root ~/.chatterbox
///
/// What cannot be sent stays in the outbox with an .error file beside it. What a person must know is in $ROOT/alerts.
/// Where the daemon cannot start, or not go on, $ROOT/status says why.
/// A connection that is lost comes back by itself, and so does a full disk; nothing is lost or repeated by either, nor
/// by killing the daemon.
///
/// Exit codes (sysexits.h): 0 stopped as asked, 1 too old for the Tor network, 64 wrong command line, 65 damaged state,
/// 66 no account there, 70 fault of the program, 74 reading or writing failed, 75 another daemon runs on this root, 77 no
/// permission, 78 wrong settings.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, verbatim_doc_comment)]
struct Cli {
    /// The directory of the account; by default $CHATTERBOX_ROOT, else ~/.chatterbox.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Parses the command line and runs the daemon.
pub fn main() -> ExitCode {
    let cli: Cli = match process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    process::log_to_stderr();
    process::keep_files_private();
    match run(cli.root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM),
    }
}

fn run(root: Option<PathBuf>) -> Result<(), Failure> {
    let named = super::root::root(root)?;
    // Events name the directory as it is watched; a link on the way to it must not make two names of one.
    let path = named.path().canonicalize().unwrap_or_else(|_| named.path().to_owned());
    let root = Root::new(&path);
    if !root.config().exists() {
        return Err(failure(&path, &DaemonError::NoAccount(path.clone())));
    }
    serve(&root)
}

/// Until it is told to stop.
fn serve(root: &Root) -> Result<(), Failure> {
    let settings = Settings::load(root).map_err(|error| ended(root, settings_failure(&error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .enable_all()
        .build()
        .map_err(|error| ended(root, Failure::io("starting the daemon's threads", &error, "")))?;
    runtime.block_on(async {
        let stop = StopSignals::listen();
        let stop = stop.map_err(|error| ended(root, Failure::io("listening for signals", &error, "")))?;
        let plan = Plan {
            way: settings.dialer,
            tor_directory: root.join("tor"),
            private_tor_network: settings.private_tor_network,
            is_scheduled: settings.traffic.schedule.mean().is_some(),
        };
        daemon::run(root.clone(), &plan, (settings.traffic, settings.policy), stop.first()).await.map_err(|error| {
            match failure(root.path(), &error) {
                // That one says for itself how it is doing.
                failure if matches!(error, DaemonError::Lock(LockError::Held { .. })) => failure,
                failure => ended(root, failure),
            }
        })
    })
}

/// Leaves in `status` why the daemon does not run.
fn ended(root: &Root, failure: Failure) -> Failure {
    let said = failure.to_string();
    status_file::say_ended(root, &said.lines().map(str::trim).collect::<Vec<_>>().join("; "));
    failure
}

/// Frames are sealed and opened on these; one keeps up with any home connection.
const NETWORK_THREADS: usize = 1;

/// One old file beside newer ones is worse than none: a session would go on with keys that have served.
const RESTORE_WHOLE: &str = "Do not put back this file alone: keep a copy of the directory, run `chatterbox doctor`, and \
                             restore the whole directory from a backup, or ask for help with this.";

fn settings_failure(error: &SettingsError) -> Failure {
    Failure::new(
        Exit::Config,
        "reading the settings",
        error,
        "Correct that line, or remove it: each setting has a default.",
    )
}

fn failure(root: &Path, error: &DaemonError) -> Failure {
    let doing = format!("running on {}", root.display());
    if let DaemonError::State(error) = error {
        let is_own = |path: &Path| ["keys", "journal"].iter().any(|own| path.starts_with(root.join(own)));
        return match error {
            StateError::Malformed { path, .. } if is_own(path) => Failure::new(Exit::Data, doing, error, RESTORE_WHOLE),
            _ => causes::state(doing, error),
        };
    }
    let (exit, remedy) = match error {
        DaemonError::NoAccount(_) => {
            (Exit::NoInput, "`chatterbox init NAME --server ADDRESS` makes one; or name another --root.")
        }
        DaemonError::Lock(LockError::Held { .. }) => {
            (Exit::TemporaryFailure, "One daemon serves a root: `chatterbox status` tells how it is doing.")
        }
        DaemonError::Lock(LockError::LookedAt { .. }) => {
            (Exit::TemporaryFailure, "Find out who that is (`fuser -v` on this file), and start it again.")
        }
        DaemonError::Lock(_) | DaemonError::Disk(_) | DaemonError::Watch(_) => {
            (Exit::Io, "Check the disk, the permissions and the limits of the system.")
        }
        DaemonError::Journal(error) if error.is_temporary() => {
            (Exit::Io, "Nothing is lost. See to the disk (space, permissions, the path above), and start it again.")
        }
        DaemonError::Journal(_) | DaemonError::State(_) => (Exit::Data, RESTORE_WHOLE),
        DaemonError::NoTor(_) => (
            Exit::Config,
            "Set dialer = \"socks5://ADDRESS:PORT\" in chatterbox.toml for a Tor that runs already, or use a build with Tor.",
        ),
        DaemonError::Fault => (Exit::Software, "Start it again, and report this with the log."),
    };
    Failure::new(exit, doing, error, remedy)
}
