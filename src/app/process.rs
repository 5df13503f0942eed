//! What the long-running programs share: the log on stderr, the signals that stop them, and command lines that end with
//! sysexits codes.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;
use tokio::signal::unix::{Signal, SignalKind, signal};

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use super::failure::Exit;

/// Parses the command line. The error is the exit code after help, version or usage was printed.
///
/// # Errors
/// 0 after `--help` and `--version`, [`Exit::Usage`] otherwise.
pub fn parse<Cli: Parser>() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // Where the stream is closed the exit code still tells.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 })
    })
}

/// Logs without colours or targets: times, levels, and texts that hold no content, key or account.
pub fn log_to_stderr() {
    // A log on a full disk, or whose reader is gone, must not end the program: what cannot be written is lost.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    // Of the libraries only what must not be missed: arti warns of each try that failed, and what matters of that we say.
    let levels =
        Targets::new().with_default(LevelFilter::ERROR).with_target(env!("CARGO_CRATE_NAME"), LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(levels));
    // Fails only if there is one already, which then logs.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Makes every file that this process makes from now on one that only its owner reads, the libraries' files as well.
pub fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// SIGTERM and SIGINT, from now on: they no longer end the process by themselves.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over. Needs a running tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The first of them.
    pub async fn first(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("stopping");
    }
}
