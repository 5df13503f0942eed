//! `chatterbox wait`, and `send --wait`: until a message has come as far as somebody wants to know it.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::context::Context;
use super::conversations::current_name;
use super::hints::Hints;
use super::message::{self, Named, Sent};
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::client::delivery::{Delivery, Recipient, State};
use crate::client::error_file;
use crate::client::progress;
use crate::clock::Timestamp;
use crate::disk::lock;
use crate::limits::{OUTBOX_LOOK_MS, STATUS_POLL_MS};

const EXAMPLES: &str = "\
Examples:
  chatterbox wait \"$(echo 'Disk full' | chatterbox send bob)\" --timeout 30s
  chatterbox wait outbox/bob/plan.pdf --for accepted
  chatterbox wait 2026-11-22T101530.123456Z-alice-plan.pdf";

/// Wait until a message is delivered to all its recipients, or has failed for one of them.
///
/// A message that still stands in the outbox is waited for until it has left it; where chatterboxd refuses it, the command ends
/// with what its .error file says. At the end the state is printed for each recipient.
///
/// The exit code is 0 if all recipients have come this far, 69 if it has failed for somebody, 65 if it was refused in the
/// outbox, and 75 if the time was over before. A chatterboxd that does not run is waited for, too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Wait {
    /// A message: its path in conversations/, its name there, or the path in the outbox that `send` printed
    #[arg(value_name = "MESSAGE")]
    message: PathBuf,
    #[command(flatten)]
    until: Until,
}

/// For what, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct Until {
    /// How far the message is to come [default: delivered]
    #[arg(long = "for", value_name = "STATE")]
    state: Option<Reached>,
    /// Give up waiting after this time, such as 30s or 5m [default: never]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reached {
    /// The servers of all recipients have it
    Accepted,
    /// All recipients have it
    Delivered,
}

/// A time on the command line. A bare number is in seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs);
    let time = seconds.ok().or_else(|| humantime::parse_duration(text).ok());
    time.ok_or_else(|| "it must be a time such as 30s or 5m".to_owned())
}

impl Wait {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        self.until.wait(context, &self.message, output)
    }
}

impl Until {
    /// Whether anything but the usual was asked for.
    pub(super) fn is_asked_for(&self) -> bool {
        self.state.is_some() || self.timeout.is_some()
    }

    /// Waits for a message, and prints what became of it.
    pub(super) fn wait(&self, context: &Context, wanted: &Path, output: &mut Output) -> Result<(), Failure> {
        let doing = format!("waiting for {}", output::shown(wanted));
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (timeout, lock) = (self.timeout, context.root.lock());
        let mut watch = Watch { doing, deadline, timeout, looked_at: None, lock, hints: Hints::new() };
        let sent = match message::find(context, &watch.doing, wanted)? {
            Named::Sent(sent) => sent,
            Named::Waiting { path, relative } => {
                say_if_stopped(context);
                watch.until_sent(context, &path, &relative)?
            }
        };
        let recipients = watch.until_reached(context, sent, self.state.unwrap_or(Reached::Delivered))?;
        let mut failed = Vec::new();
        for Recipient { fingerprint, name, state, .. } in &recipients {
            let name = current_name(&context.people, name, Some(fingerprint));
            let name = output::safe(&name).into_owned();
            let reason = match state {
                State::Failed(reason) => format!(": {}", output::safe(reason)),
                _ => String::new(),
            };
            output.text(&format!("{name}: {state}{reason}\n"))?;
            if matches!(state, State::Failed(_)) {
                failed.push(name);
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => {
                let cause = format!("it failed for {}", failed.join(", "));
                let is_own = |line: &Recipient| !matches!(line.state, State::Failed(_)) || line.state.is_cancelled();
                let remedy = match recipients.iter().all(is_own) {
                    true => "It was cancelled here; send it again if they are to have it.",
                    false => "The reason stands above; alerts/ says what to do.",
                };
                Err(Failure::new(Exit::Unavailable, watch.doing, cause, remedy))
            }
        }
    }
}

impl Reached {
    /// Whether nothing more is to be waited for.
    fn is_settled(self, state: &State) -> bool {
        match state {
            State::Delivered | State::Failed(_) => true,
            State::Accepted => matches!(self, Self::Accepted),
            State::Queued | State::Sealed => false,
        }
    }
}

/// A wait, with its end.
struct Watch {
    doing: String,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    /// When a daemon has looked at all that stood in the outbox before, if one runs.
    looked_at: Option<Instant>,
    /// The daemon's.
    lock: PathBuf,
    hints: Hints,
}

impl Watch {
    /// Until a file has left the outbox and is a message.
    fn until_sent(&mut self, context: &Context, path: &Path, relative: &Path) -> Result<Sent, Failure> {
        let since = fs::symlink_metadata(path).ok().map(|found| message::changed(&found));
        self.hints.watch(path.parent().unwrap_or(path));
        self.hints.watch(&context.root.outbox());
        loop {
            if fs::symlink_metadata(path).is_err() {
                return message::from_outbox_since(context, relative, since).ok_or_else(|| {
                    let cause = "it has gone from the outbox and is no message";
                    Failure::new(Exit::NoInput, &*self.doing, cause, "Somebody moved or removed it; look for it there.")
                });
            }
            if let Some(text) = self.error_of(context, path, since) {
                let (cause, remedy) = text.split_once('\n').unwrap_or((&text, ""));
                let cause = format!("it is not sent: {}", output::safe(cause));
                return Err(Failure::new(
                    Exit::Data,
                    &*self.doing,
                    cause,
                    output::safe(remedy.trim_end()).into_owned(),
                ));
            }
            self.pause(|| "it is still in the outbox; `chatterbox status` says why".to_owned())?;
        }
    }

    /// What the daemon says to be wrong with a file, or with its directory. What stood there before the file did counts only once
    /// a daemon has had time to look at it: it may be about another of that name, or mended since.
    fn error_of(&mut self, context: &Context, path: &Path, since: Option<Timestamp>) -> Option<String> {
        if self.looked_at.is_none() && matches!(lock::is_held(&context.root.lock()), Ok(Some(_))) {
            self.looked_at = Instant::now().checked_add(Duration::from_millis(OUTBOX_LOOK_MS));
        }
        let has_looked = self.looked_at.is_some_and(|at| at <= Instant::now());
        let is_newer = |error: &Path| {
            let written = fs::symlink_metadata(error).ok().map(|found| message::changed(&found));
            written.zip(since).is_some_and(|(written, since)| written >= since)
        };
        let errors = [path, path.parent().unwrap_or(path)].map(error_file::beside).into_iter();
        let mut heeded = errors.filter(|error| has_looked || is_newer(error));
        heeded.find_map(|error| error_file::read(&context.root, &error))
    }

    /// Until nothing more is to be waited for. Hands out the recipients' lines.
    fn until_reached(&mut self, context: &Context, mut sent: Sent, wanted: Reached) -> Result<Vec<Recipient>, Failure> {
        let mut bar = Bar::default();
        let mut has_said = false;
        self.hints.watch(sent.directory());
        loop {
            if !sent.follow(context) {
                bar.end();
                let cause = "its file in .delivery/ is gone: it was deleted here, or its conversation was moved away";
                return Err(Failure::new(Exit::NoInput, &*self.doing, cause, ""));
            }
            let Delivery { recipients, .. } = &sent.delivery;
            if recipients.iter().all(|recipient| wanted.is_settled(&recipient.state)) {
                bar.end();
                return Ok(sent.delivery.recipients);
            }
            if !std::mem::replace(&mut has_said, true) {
                say_if_stopped(context);
            }
            bar.show(context, recipients);
            self.hints.watch(sent.directory());
            let states = || states(context, &sent.delivery.recipients);
            self.pause(states).inspect_err(|_| bar.end())?;
        }
    }

    /// Until something may have changed. An error when the time is over, which says how far it is.
    fn pause(&self, how_far: impl FnOnce() -> String) -> Result<(), Failure> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let period = humantime::format_duration(self.timeout.unwrap_or_default());
            let cause = format!("{period} are over: {}", how_far());
            let remedy = match lock::is_held(&self.lock) {
                Ok(None) => "Start chatterboxd: nothing is sent until it runs.",
                _ => "Wait longer; it is sent all the same. `chatterbox status` says what it waits for.",
            };
            return Err(Failure::new(Exit::TemporaryFailure, &*self.doing, cause, remedy));
        }
        let poll = Duration::from_millis(STATUS_POLL_MS);
        self.hints.next(left.map_or(poll, |left| left.min(poll)));
        Ok(())
    }
}

/// How much of a large message has left, on one line of a terminal that is written again and again.
#[derive(Default)]
struct Bar {
    shown: String,
}

impl Bar {
    fn show(&mut self, context: &Context, recipients: &[Recipient]) {
        let of_one = |recipient: &Recipient| {
            let (done, total) = recipient.progress?;
            let name = current_name(&context.people, &recipient.name, Some(&recipient.fingerprint));
            Some(format!("{}: {}", output::safe(&name), progress::of_whole(done, total)))
        };
        let text = recipients.iter().filter_map(of_one).collect::<Vec<_>>().join(", ");
        let mut terminal = std::io::stderr();
        if text != self.shown && terminal.is_terminal() {
            let width = self.shown.chars().count();
            // Where nobody listens there is nobody to tell.
            let _ = write!(terminal, "\r{text:width$}");
            self.shown = text;
        }
    }

    fn end(&self) {
        if !self.shown.is_empty() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn states(context: &Context, recipients: &[Recipient]) -> String {
    let state = |recipient: &Recipient| {
        let name = current_name(&context.people, &recipient.name, Some(&recipient.fingerprint));
        format!("{} is {}", output::safe(&name), recipient.state)
    };
    recipients.iter().map(state).collect::<Vec<_>>().join(", ")
}

/// Only a remark, at once: somebody who waits should know that nothing happens meanwhile.
fn say_if_stopped(context: &Context) {
    if matches!(lock::is_held(&context.root.lock()), Ok(None)) {
        output::note("note: chatterboxd is not running; nothing is sent until it does");
    }
}
