//! `chatterbox send`: puts a message into the outbox, whole or not at all.

use std::fs;
use std::io::{self, Read as _};
use std::iter;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::causes;
use super::context::Context;
use super::outbox::Addressed;
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::clock::Timestamp;
use crate::disk::atomic::{self, AtomicError};
use crate::disk::lock;
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::real::RealDisk;
use crate::limits::{CONTENT_BYTES_MAX, COUNTED_BYTES_MAX, NAME_TRIES_MAX};
use crate::name;

const EXAMPLES: &str = "\
Examples:
  echo 'Lunch at noon?' | chatterbox send bob
  chatterbox send bob carol -s standup < notes.txt
  chatterbox send bob -f plan.pdf       bob gets it as ….-alice-plan.pdf";

/// Queue a message: standard input, or a file, for one or several contacts.
///
/// The message is written aside, synced, and moved into the outbox directory in one step, so that it is sent whole or
/// not at all. Its path in the outbox is printed. chatterboxd sends it, now or when it runs next, and the file
/// disappears from the outbox; `chatterbox show NAME` then has it, with its state of delivery.
///
/// Several names are one conversation of them all. With a subject, a directory in the outbox whose metadata.toml has
/// the same subject and the same participants is used again; if there is none, a conversation is opened.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    #[command(flatten)]
    addressed: Addressed,
    /// Send this file, under its name, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Send {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        let doing = "sending a message";
        let addressees = self.addressed.resolve(doing, context)?;
        let content = match &self.file {
            Some(file) => read_file(file)?,
            None => read_stdin()?,
        };
        let directory = addressees.directory(doing)?;
        let path = queue(context, doing, &directory, self.file.as_deref(), &content)?;
        output.path(&path)?;
        // Only a remark: the message is queued whether or not we can find this out.
        if matches!(lock::is_held(&context.root.lock()), Ok(None)) {
            output::note("note: chatterboxd is not running; the message waits until it does");
        }
        Ok(())
    }
}

fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let doing = format!("sending {}", output::shown(file));
    let failed = |error: OpenError| {
        let remedy = match error {
            OpenError::TooLarge { .. } => "Send it in smaller parts, for now.",
            OpenError::Absent => "Check the name.",
            _ => "Name a plain file that you may read.",
        };
        Failure::new(causes::open_exit(&error), &*doing, &error, remedy)
    };
    // Whoever names a link means what it points to. In the outbox, where others may put files, links are refused.
    let path = fs::canonicalize(file).map_err(|error| Failure::io(&*doing, &error, "Check the name."))?;
    let content =
        RegularFile::open(&RealDisk, &path).and_then(|file| file.read(CONTENT_BYTES_MAX as u64)).map_err(failed)?;
    if content.is_empty() {
        return Err(Failure::new(Exit::Data, doing, "the file is empty", "Send a file with something in it."));
    }
    Ok(content)
}

fn read_stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let doing = "sending a message from standard input";
    output::prompt("type the message, then press Ctrl-D on an empty line");
    let failed = |error: io::Error| Failure::io(doing, &error, "Pipe a message in, or name a file with -f FILE.");
    let limit = CONTENT_BYTES_MAX as u64;
    let mut stdin = io::stdin().lock();
    // All the room it may need, so that the vector leaves no unwiped copies behind while it grows.
    let mut content = Zeroizing::new(Vec::with_capacity(CONTENT_BYTES_MAX + 1));
    stdin.by_ref().take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if content.is_empty() {
        let remedy = "Pipe a message in, or name a file with -f FILE.";
        return Err(Failure::new(Exit::Data, doing, "the message is empty", remedy));
    }
    if content.len() as u64 > limit {
        let rest = io::copy(&mut stdin.take(COUNTED_BYTES_MAX), &mut io::sink()).map_err(failed)?;
        let more = if rest == COUNTED_BYTES_MAX { "more than " } else { "" };
        let size = limit + 1 + rest;
        let cause = format!("the message has {more}{size} bytes, {limit} are allowed");
        return Err(Failure::new(Exit::Data, doing, cause, "Send it in smaller parts, for now."));
    }
    Ok(content)
}

/// Puts the content into the outbox directory under a free name.
fn queue(
    context: &Context,
    doing: &str,
    directory: &Path,
    file: Option<&Path>,
    content: &[u8],
) -> Result<PathBuf, Failure> {
    let scratch = context.scratch(doing)?;
    for name in names(file, Timestamp::now()) {
        let path = directory.join(name);
        match atomic::create_new(&RealDisk, &scratch, &path, content) {
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
