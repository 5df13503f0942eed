//! `chatterbox cancel`: takes a message back from those who do not have it yet.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::causes;
use super::context::Context;
use super::hints::Hints;
use super::message::{self, Named, Sent};
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::client::delivery::State;
use crate::client::error_file;
use crate::client::root::{CANCEL_DIRECTORY, NO_MESSAGE};
use crate::disk::atomic;
use crate::disk::lock;
use crate::disk::real::RealDisk;
use crate::limits::STATUS_POLL_MS;
use crate::wire::identity::MessageId;

const EXAMPLES: &str = "\
Examples:
  chatterbox cancel outbox/bob/plan.pdf                       the path that send printed
  chatterbox cancel 2026-11-22T101530.123456Z-alice-plan.pdf  the message's name, or its path";

/// Take a message back from those who do not have it yet.
///
/// A file that is still in the outbox is removed. A message that has left it is taken back from every recipient whose server
/// does not have all of it: they will not get it, and its state for them is failed, "cancelled". Whoever has it keeps it,
/// and it stays in conversations/ here.
///
/// The exit code is 0 if nobody has it, 69 if it was too late for somebody, who is named, and 75 if chatterboxd does not
/// run: it does what is asked when it starts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Cancel {
    /// A message: its path in conversations/, its name there, or the path in the outbox that `send` printed
    #[arg(value_name = "MESSAGE")]
    message: PathBuf,
}

impl Cancel {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = format!("cancelling {}", output::shown(&self.message));
        match message::find(context, &doing, &self.message)? {
            Named::Sent(sent) => take_back(context, &doing, &sent, output),
            Named::Waiting { path, relative } => match remove(context, &doing, &path, &relative)? {
                Some(sent) => take_back(context, &doing, &sent, output),
                None => output.text("cancelled: it had not left the outbox\n"),
            },
        }
    }
}

/// Removes a file from the outbox. Where chatterboxd had taken it before, hands out the message that it has become.
fn remove(context: &Context, doing: &str, path: &Path, relative: &Path) -> Result<Option<Sent>, Failure> {
    let failed = |error: std::io::Error| Failure::io(doing, &error, "Check that the directory outbox/ is yours.");
    let since = fs::symlink_metadata(path).ok().map(|found| message::changed(&found));
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.map_err(failed)?,
    }
    // What it has read by now it records before it does anything that is asked for later.
    if is_running(context) {
        ask(context, doing, &NO_MESSAGE)?;
    }
    Ok(message::from_outbox_since(context, relative, since))
}

/// Asks chatterboxd to take a message back, and says what came of it.
fn take_back(context: &Context, doing: &str, sent: &Sent, output: &mut Output) -> Result<(), Failure> {
    if !ask(context, doing, &sent.delivery.id)? {
        let remedy = "Start chatterboxd: it does this before it sends anything.";
        return Err(Failure::new(Exit::TemporaryFailure, doing, "chatterboxd is not running", remedy));
    }
    let (mut late, mut untold) = (Vec::new(), Vec::new());
    for recipient in sent.now().recipients {
        let name = output::safe(&recipient.name).into_owned();
        match &recipient.state {
            State::Failed(reason) => output.text(&format!("{name}: {}\n", output::safe(reason)))?,
            // Done or not, it would not say so any more: its state could not be written here.
            state @ (State::Queued | State::Sealed) => {
                output.text(&format!("{name}: not known, it still says {state}\n"))?;
                untold.push(name);
            }
            state => {
                output.text(&format!("{name}: too late, it is {state}\n"))?;
                late.push(name);
            }
        }
    }
    match late.is_empty() {
        true if !untold.is_empty() => {
            let cause = format!("what became of it could not be written here for {}", untold.join(", "));
            let remedy = "Look again in a minute. Where its conversation has two directories, states are kept up in the newer one \
                          alone: `chatterbox doctor` names them.";
            Err(Failure::new(Exit::TemporaryFailure, doing, cause, remedy))
        }
        true => Ok(()),
        false => {
            let cause = format!("it was too late for {}", late.join(", "));
            Err(Failure::new(Exit::Unavailable, doing, cause, "Nothing can be taken back from them any more."))
        }
    }
}

/// Asks chatterboxd to cancel, and waits until it has. False if it does not run.
fn ask(context: &Context, doing: &str, message: &MessageId) -> Result<bool, Failure> {
    let directory = context.root.join(CANCEL_DIRECTORY);
    atomic::make_private_directory(&RealDisk, &directory).map_err(|error| causes::disk(doing, &error))?;
    let request = directory.join(message.to_string());
    let mut hints = Hints::new();
    hints.watch(&directory);
    let failed = |error: std::io::Error| Failure::io(doing, &error, "Check that the directory outbox/ is yours.");
    // What an earlier request was answered is no answer to this one.
    let error = error_file::beside(&request);
    error_file::remove(&context.root, &error);
    fs::write(&request, "").map_err(failed)?;
    while fs::symlink_metadata(&request).is_ok() {
        if !is_running(context) {
            return Ok(false);
        }
        if error_file::read(&context.root, &error).is_some() {
            // There is nothing left to be done, and what became of the message is said here.
            match fs::remove_file(&request) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => error_file::remove(&context.root, &error),
            }
            break;
        }
        hints.next(Duration::from_millis(STATUS_POLL_MS));
    }
    Ok(true)
}

fn is_running(context: &Context) -> bool {
    matches!(lock::is_held(&context.root.lock()), Ok(Some(_)))
}
