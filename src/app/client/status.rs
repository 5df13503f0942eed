//! `chatterbox status`: what the daemon says of itself, and whether there is one.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::hints::Hints;
use super::output::{self, Output};
use super::{causes, context, wait};
use crate::app::failure::{Exit, Failure};
use crate::client::root::Root;
use crate::client::status::Status;
use crate::disk::lock;
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::{STATE_FILE_BYTES_MAX, STATUS_POLL_MS};
use crate::name;
use crate::wire::profile::SignedProfile;

const EXAMPLES: &str = "\
Examples:
  chatterbox status
  chatterbox status --json | jq .connected
  chatterboxd & chatterbox status --wait connected --timeout 1m";

/// Say whether chatterboxd runs and what it does: its connection, what waits and why.
///
/// Whether it runs is decided by the lock that it holds, not by the file `status`, which a killed daemon leaves
/// behind. A daemon that does not run is no error: the exit code is 0.
///
/// With --wait connected the command returns when chatterboxd runs and is connected to the home server, and prints
/// the status then; with --timeout it gives up after that time, with exit code 75.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusCommand {
    /// Print JSON (docs/command-line.md lists the fields)
    #[arg(long)]
    json: bool,
    /// Wait until chatterboxd runs and is connected
    #[arg(long, value_name = "STATE")]
    wait: Option<Condition>,
    /// Give up waiting after this time, such as 30s or 5m [default: never]
    #[arg(long, value_name = "TIME", value_parser = wait::time, requires = "wait")]
    timeout: Option<Duration>,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Condition {
    /// chatterboxd runs and has its home connection
    Connected,
}

impl StatusCommand {
    pub(super) fn run(self, root: &Root, output: &mut Output) -> Result<(), Failure> {
        let own = context::own_profile(root)?;
        let report = match self.wait {
            Some(Condition::Connected) => wait_connected(root, self.timeout)?,
            None => Report::read(root)?,
        };
        let unread = Unread::count(root);
        match self.json {
            true => output.json(&Json::new(&report, &own, unread)),
            false => output.text(&(text(&report, &own) + &unread.lines())),
        }
    }
}

/// What waits for a person, whether a daemon runs or not.
#[derive(Clone, Copy, Debug)]
struct Unread {
    requests: usize,
    alerts: usize,
}

impl Unread {
    fn count(root: &Root) -> Self {
        let count = |directory: &str| {
            let names = root.names(directory);
            names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")).count()
        };
        Self { requests: count("requests"), alerts: count("alerts") }
    }

    fn lines(self) -> String {
        let line = |name: &str, count: usize| match count {
            0 => String::new(),
            count => format!("{name}: {count}\n"),
        };
        line("requests", self.requests) + &line("alerts", self.alerts)
    }
}

/// What is the case now.
#[derive(Debug)]
enum Report {
    /// Nobody holds the lock. Why the last daemon ended, where it was not asked to.
    NotRunning(Option<String>),
    /// Somebody does, and has not written its status yet.
    Starting(Option<u32>),
    /// The daemon's own words.
    Running(Box<Status>),
}

impl Report {
    fn read(root: &Root) -> Result<Self, Failure> {
        let doing = "reading the status";
        let holder = lock::is_held(&root.lock())
            .map_err(|error| Failure::new(Exit::Io, doing, error, "Check that the directory journal/ is yours."))?;
        let read = open::read_regular(&RealDisk, &root.status(), STATE_FILE_BYTES_MAX);
        let Some(holder) = holder else {
            let status = read.ok().map(|bytes| Status::parse(&String::from_utf8_lossy(&bytes)));
            return Ok(Self::NotRunning(status.and_then(|status| status.ended)));
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(OpenError::Absent) => return Ok(Self::Starting(holder.pid)),
            Err(error) => {
                let exit = causes::open_exit(&error);
                return Err(Failure::new(exit, doing, error, "Remove the file `status`; chatterboxd writes it anew."));
            }
        };
        let status = Status::parse(&String::from_utf8_lossy(&bytes));
        // A status of another process is what a killed daemon left for the one that is starting.
        let fresh = status.running && holder.pid == Some(status.pid);
        Ok(if fresh { Self::Running(Box::new(status)) } else { Self::Starting(holder.pid) })
    }

    fn is_connected(&self) -> bool {
        matches!(self, Self::Running(status) if status.connected)
    }
}

/// Looks at every event in the root, and now and then without one.
fn wait_connected(root: &Root, timeout: Option<Duration>) -> Result<Report, Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut hints = Hints::new();
    hints.watch(root.path());
    loop {
        let report = Report::read(root)?;
        if report.is_connected() {
            return Ok(report);
        }
        let poll = Duration::from_millis(STATUS_POLL_MS);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(timed_out(&report, timeout.unwrap_or_default()));
        }
        hints.next(left.map_or(poll, |left| left.min(poll)));
    }
}

fn timed_out(report: &Report, timeout: Duration) -> Failure {
    let (cause, remedy) = match report {
        Report::NotRunning(None) => ("chatterboxd is not running".to_owned(), "Start chatterboxd."),
        Report::NotRunning(Some(ended)) => {
            (format!("chatterboxd has ended: {}", output::safe(ended)), "See to that, and start chatterboxd.")
        }
        Report::Starting(_) => ("chatterboxd is still starting".to_owned(), "Wait longer, or see what its log says."),
        Report::Running(status) => (
            match &status.tor {
                Some(tor) => format!("tor: {}; connection: {}", output::safe(tor), output::safe(&status.connection)),
                None => format!("the connection is: {}", output::safe(&status.connection)),
            },
            "Wait longer, or see what its log says.",
        ),
    };
    let doing = format!("waiting {} for the connection", humantime::format_duration(timeout));
    Failure::new(Exit::TemporaryFailure, doing, cause, remedy)
}

fn text(report: &Report, own: &SignedProfile) -> String {
    let account = format!("{} {}", own.profile().name, own.identity().fingerprint());
    match report {
        Report::NotRunning(ended) => {
            let ended = ended.as_ref().map_or_else(String::new, |ended| format!("ended: {}\n", output::safe(ended)));
            format!("daemon: not running\n{ended}account: {account}\n")
        }
        Report::Starting(pid) => {
            let pid = pid.map_or_else(String::new, |pid| format!("pid: {pid}\n"));
            format!("daemon: starting\n{pid}account: {account}\n")
        }
        Report::Running(status) => status.to_string().lines().map(|line| format!("{}\n", output::safe(line))).collect(),
    }
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    daemon: &'static str,
    ended: Option<&'a str>,
    pid: Option<u32>,
    account: Account<'a>,
    dialer: Option<&'a str>,
    tor: Option<&'a str>,
    connected: bool,
    connection: Option<&'a str>,
    recovery: Option<&'a str>,
    schedule: Option<&'a str>,
    queue: Option<usize>,
    prekeys: Option<u32>,
    ignored: Option<usize>,
    receiving: &'a [String],
    paused: Option<&'a str>,
    trouble: Vec<Trouble<'a>>,
    sending: &'a [String],
    waiting: Vec<Waiting<'a>>,
    refused: Vec<String>,
    hooks: Vec<HookTrouble<'a>>,
    dropboxes: Vec<DropboxLine<'a>>,
    requests: usize,
    alerts: usize,
}

#[derive(Debug, Serialize)]
struct Account<'a> {
    name: &'a str,
    fingerprint: String,
}

#[derive(Debug, Serialize)]
struct Trouble<'a> {
    name: &'a str,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct DropboxLine<'a> {
    name: &'a str,
    state: &'a str,
}

#[derive(Debug, Serialize)]
struct Waiting<'a> {
    path: String,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct HookTrouble<'a> {
    hook: &'a str,
    reason: &'a str,
}

/// A path as it is. The file has it on one line.
fn unescaped(path: &str) -> String {
    String::from_utf8_lossy(&name::unescape(path)).into_owned()
}

impl<'a> Json<'a> {
    fn new(report: &'a Report, own: &'a SignedProfile, unread: Unread) -> Self {
        let (daemon, pid, status) = match report {
            Report::NotRunning(_) => ("not running", None, None),
            Report::Starting(pid) => ("starting", *pid, None),
            Report::Running(status) => ("running", Some(status.pid), Some(status.as_ref())),
        };
        let pairs = |list: fn(&Status) -> &Vec<(String, String)>| status.map(list).into_iter().flatten();
        Self {
            daemon,
            ended: match report {
                Report::NotRunning(ended) => ended.as_deref(),
                Report::Starting(_) | Report::Running(_) => None,
            },
            pid,
            account: Account { name: &own.profile().name, fingerprint: own.identity().fingerprint().to_string() },
            dialer: status.map(|status| status.dialer.as_str()),
            tor: status.and_then(|status| status.tor.as_deref()),
            connected: report.is_connected(),
            connection: status.map(|status| status.connection.as_str()),
            recovery: status.and_then(|status| status.recovery.as_deref()),
            schedule: status.and_then(|status| status.schedule.as_deref()),
            queue: status.map(|status| status.queue),
            prekeys: status.and_then(|status| status.prekeys),
            ignored: status.map(|status| status.ignored),
            receiving: status.map_or(&[], |status| &status.receiving),
            paused: status.and_then(|status| status.paused.as_deref()),
            trouble: pairs(|status| &status.troubled).map(|(name, reason)| Trouble { name, reason }).collect(),
            sending: status.map_or(&[], |status| &status.sending),
            waiting: pairs(|status| &status.waiting)
                .map(|(path, reason)| Waiting { path: unescaped(path), reason })
                .collect(),
            dropboxes: pairs(|status| &status.dropboxes).map(|(name, state)| DropboxLine { name, state }).collect(),
            refused: status.into_iter().flat_map(|status| &status.refused).map(|path| unescaped(path)).collect(),
            requests: unread.requests,
            alerts: unread.alerts,
            hooks: pairs(|status| &status.hooks).map(|(hook, reason)| HookTrouble { hook, reason }).collect(),
        }
    }
}
