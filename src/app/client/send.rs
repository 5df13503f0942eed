//! `chatterbox send`: puts a message into the outbox, whole or not at all.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::iter;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::causes;
use super::context::Context;
use super::outbox::Addressed;
use super::output::{self, Output};
use super::wait::Until;
use crate::app::failure::{Exit, Failure};
use crate::app::settings::Settings;
use crate::clock::Timestamp;
use crate::disk::atomic::{AtomicError, Unnamed};
use crate::disk::lock;
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::real::RealDisk;
use crate::limits::{COUNTED_BYTES_MAX, SEND_LIMIT_BYTES};
use crate::name;
use crate::name::NAME_TRIES_MAX;

/// What is read at a time.
const PORTION_BYTES: usize = 64 * 1024;

const TOO_LARGE: &str = "Split it, or raise send_limit in chatterbox.toml and start chatterboxd again.";

const EXAMPLES: &str = "\
Examples:
  echo 'Lunch at noon?' | chatterbox send bob
  chatterbox send bob carol -s standup < notes.txt
  echo 'Yes.' | chatterbox send 2026-11-22-bob-alice-carol_standup
  chatterbox send bob -f plan.pdf       bob gets it as ….-alice-plan.pdf
  echo 'Disk full' | chatterbox send bob --wait --timeout 1m || mail -s 'Disk full' bob@example.org";

/// Queue a message: standard input, or a file, for one or several contacts.
///
/// The message is written aside, synced, and moved into the outbox directory in one step, so that it is sent whole or
/// not at all. Its path in the outbox is printed. chatterboxd sends it, now or when it runs next, and the file
/// disappears from the outbox; `chatterbox show NAME` then has it, with its state of delivery.
///
/// Several names are one conversation of them all. With a subject, a directory in the outbox whose metadata.toml has
/// the same subject and the same participants is used again; if there is none, a conversation is opened. A conversation
/// that stands, also with people whose cards you do not hold, has a name: see `chatterbox list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    #[command(flatten)]
    addressed: Addressed,
    /// Send this file, under its name, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Wait until it is delivered to all, and print what became of it (exit codes as of `wait`)
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    until: Until,
}

impl Send {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = "sending a message";
        if self.until.is_asked_for() && !self.wait {
            let cause = "--for and --timeout say how to wait";
            return Err(Failure::new(Exit::Usage, doing, cause, "Add --wait, or leave them out."));
        }
        let addressees = self.addressed.resolve(doing, context).map_err(|failure| {
            let names = &self.addressed.names;
            let is_known = |name: &String| context.people.contacts().by_name(name).is_some();
            let is_text = names.len() > 1 && is_known(&names[0]) && !names[1..].iter().any(is_known);
            match is_text && self.addressed.conversation(context).is_none() {
                true => failure.or(&format!(
                    "If that is what you want to say: `echo TEXT | chatterbox send {}`.",
                    name::shell_word(&names[0])
                )),
                false => failure,
            }
        })?;
        let limit = Settings::load(&context.root).map_or(SEND_LIMIT_BYTES, |settings| settings.policy.send_limit);
        let scratch = context.scratch(doing)?;
        // All of it first: a directory is made only for what can be sent.
        let content = match &self.file {
            Some(file) => read_file(file, &scratch, limit)?,
            None => read_stdin(&scratch, limit)?,
        };
        let directory = addressees.directory(doing)?;
        let path = queue(doing, &directory, self.file.as_deref(), content)?;
        output.path(&path)?;
        if self.wait {
            return self.until.wait(context, &path, output);
        }
        // Only a remark: the message is queued whether or not we can find this out.
        if matches!(lock::is_held(&context.root.lock()), Ok(None)) {
            output::note("note: chatterboxd is not running; the message waits until it does");
        }
        Ok(())
    }
}

/// Copies a file aside.
fn read_file(file: &Path, scratch: &Path, limit: u64) -> Result<Unnamed<'static>, Failure> {
    let doing = format!("sending {}", output::shown(file));
    let failed = |error: OpenError| {
        let remedy = match error {
            OpenError::TooLarge { .. } => TOO_LARGE,
            OpenError::Absent => "Check the name.",
            _ => "Name a plain file that you may read.",
        };
        Failure::new(causes::open_exit(&error), &*doing, &error, remedy)
    };
    // Whoever names a link means what it points to. In the outbox, where others may put files, links are refused.
    let path = fs::canonicalize(file).map_err(|error| Failure::io(&*doing, &error, "Check the name."))?;
    let file = RegularFile::open(&RealDisk, &path).map_err(failed)?;
    let size = file.stat().map_err(|error| failed(OpenError::Io(error)))?.size;
    if size > limit {
        return Err(failed(OpenError::TooLarge { size, limit }));
    }
    let mut offset = 0;
    let read = |buffer: &mut [u8]| {
        let read = file.read_at(offset, buffer)?;
        offset += read as u64;
        Ok(read)
    };
    let (content, size) = copy_aside(&doing, scratch, limit, read, |error| failed(OpenError::Io(error)))?;
    match size {
        0 => Err(Failure::new(Exit::Data, doing, "the file is empty", "Send a file with something in it.")),
        // It grew.
        size if size > limit => Err(failed(OpenError::TooLarge { size, limit })),
        _ => Ok(content),
    }
}

/// Copies standard input aside.
fn read_stdin(scratch: &Path, limit: u64) -> Result<Unnamed<'static>, Failure> {
    let doing = "sending a message from standard input";
    output::prompt("type the message, then press Ctrl-D on an empty line");
    let failed = |error: io::Error| Failure::io(doing, &error, "Pipe a message in, or name a file with -f FILE.");
    let mut stdin = io::stdin().lock();
    let (content, size) = copy_aside(doing, scratch, limit, |buffer| stdin.read(buffer), failed)?;
    if size == 0 {
        let remedy = "Pipe a message in, or name a file with -f FILE.";
        return Err(Failure::new(Exit::Data, doing, "the message is empty", remedy));
    }
    if size > limit {
        let rest = io::copy(&mut stdin.take(COUNTED_BYTES_MAX), &mut io::sink()).map_err(failed)?;
        let more = if rest == COUNTED_BYTES_MAX { "more than " } else { "" };
        let cause = format!("the message has {more}{} bytes, {limit} are allowed", size + rest);
        return Err(Failure::new(Exit::Data, doing, cause, TOO_LARGE));
    }
    Ok(content)
}

/// Copies what `read` gives to a scratch file and syncs that. Ends behind `limit`, and says how many bytes came until then.
fn copy_aside(
    doing: &str,
    scratch: &Path,
    limit: u64,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(Unnamed<'static>, u64), Failure> {
    let disk = |error: AtomicError| causes::disk(doing, &error);
    let mut content = Unnamed::create(&RealDisk, scratch).map_err(disk)?;
    let (mut portion, mut size) = (Zeroizing::new(vec![0; PORTION_BYTES]), 0);
    while size <= limit {
        match read(&mut portion) {
            Ok(0) => break,
            Ok(count) => {
                content.add(&portion[..count]).map_err(disk)?;
                size += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if size > 0 && size <= limit {
        content.sync().map_err(disk)?;
    }
    Ok((content, size))
}

/// Puts the content into the outbox directory under a free name.
fn queue(
    doing: &str,
    directory: &Path,
    file: Option<&Path>,
    mut content: Unnamed<'static>,
) -> Result<PathBuf, Failure> {
    for name in names(file, Timestamp::now()) {
        let path = directory.join(name);
        match content.give_name(&path) {
            Ok(()) => return Ok(path),
            Err(AtomicError::AlreadyExists { .. }) => {}
            Err(error) => return Err(causes::disk(doing, &error)),
        }
    }
    let cause = format!("{NAME_TRIES_MAX} names are taken in {}", output::shown(directory));
    Err(Failure::new(Exit::TemporaryFailure, doing, cause, "Start chatterboxd, which empties the outbox."))
}

/// Names to try in turn: the file's own, numbered, where it is one that is sent; then one by the time, which has no
/// extension, so that the recipient's file gets no name of ours.
fn names(file: Option<&Path>, now: Timestamp) -> impl Iterator<Item = String> {
    let own = file.and_then(Path::file_name).filter(|name| !name::is_ignored(name));
    let own = own.map(|name| name.to_str().map_or_else(|| name::escape(name.as_encoded_bytes()), str::to_owned));
    let by_time = format!("message-{}", now.to_string().replace('.', "-"));
    let numbered = |name: String| (1..=NAME_TRIES_MAX).map(move |number| name::numbered_message(&name, number));
    own.into_iter()
        .flat_map(numbered)
        .filter(|name| name.len() <= name::NAME_BYTES_MAX)
        .chain(iter::once(by_time).flat_map(numbered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(file: Option<&str>) -> String {
        names(file.map(Path::new), Timestamp::from_micros(1_700_000_000_000_001)).next().unwrap()
    }

    #[test]
    fn a_file_keeps_its_name_unless_the_daemon_would_pass_it_over() {
        assert_eq!(first(Some("/a/plan.pdf")), "plan.pdf");
        for ignored in ["x.tmp", "x~", ".hidden", "metadata.toml", "x.error"] {
            assert!(first(Some(ignored)).starts_with("message-"), "{ignored}");
        }
    }

    #[test]
    fn a_message_without_a_file_gets_a_name_without_an_extension() {
        let name = first(None);
        assert_eq!(name, "message-2023-11-14T221320-000001Z");
        assert_eq!(name::extension(&name), None);
        assert!(!name::is_ignored(name.as_ref()));
    }

    #[test]
    fn a_name_that_is_taken_is_numbered_before_its_extension() {
        let mut names = names(Some(Path::new("plan.pdf")), Timestamp::from_micros(0));
        assert_eq!(names.nth(1).unwrap(), "plan-2.pdf");
        let long = "x".repeat(255);
        let fallback = super::names(Some(Path::new(&long)), Timestamp::from_micros(0)).nth(1).unwrap();
        assert!(fallback.starts_with("message-"));
    }
}
