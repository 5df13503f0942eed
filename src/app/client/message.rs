//! A message of ours that somebody names on the command line: by its path, by its name, or by the path in the outbox that
//! `send` printed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::context::Context;
use super::output;
use crate::app::failure::{Exit, Failure};
use crate::client::delivery::{self, Delivery};
use crate::clock::Timestamp;
use crate::disk::open;
use crate::disk::real::RealDisk;
use crate::name;

/// What a name means.
#[derive(Debug)]
pub(super) enum Named {
    /// A file that stands in the outbox.
    Waiting {
        /// The file.
        path: PathBuf,
        /// The same, relative to the root.
        relative: PathBuf,
    },
    /// A message that has left it.
    Sent(Sent),
}

/// A message of ours that has left the outbox.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its `.delivery` file.
    path: PathBuf,
    /// What that said when it was found.
    pub(super) delivery: Delivery,
}

impl Sent {
    fn read(path: PathBuf) -> Option<Self> {
        let text = open::read_text(&RealDisk, &path, delivery::BYTES_MAX)?;
        let delivery = Delivery::parse(&text).filter(|delivery| !delivery.recipients.is_empty())?;
        Some(Self { path, delivery })
    }

    /// Where its `.delivery` file is.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Looks again, also where somebody has renamed the conversation's directory. False if it is gone.
    pub(super) fn follow(&mut self, context: &Context) -> bool {
        let id = self.delivery.id;
        let is_it = |sent: &Self| sent.delivery.id == id;
        let elsewhere = || {
            let name = self.path.file_name();
            let alike = deliveries(context).into_iter().filter(|(other, _)| Some(other.as_os_str()) == name);
            alike.filter_map(|(_, path)| Self::read(path)).find(is_it)
        };
        let now = Self::read(self.path.clone()).filter(is_it).or_else(elsewhere);
        now.map(|now| *self = now).is_some()
    }

    /// What `.delivery` says now; what it said where it is gone.
    pub(super) fn now(&self) -> Delivery {
        Self::read(self.path.clone()).map_or_else(|| self.delivery.clone(), |now| now.delivery)
    }
}

/// Finds what a name means.
pub(super) fn find(context: &Context, doing: &str, wanted: &Path) -> Result<Named, Failure> {
    if let Some(relative) = below(context, wanted, "outbox") {
        let path = context.root.join(&relative);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Ok(Named::Waiting { path, relative });
        }
        if let Some(sent) = from_outbox(context, &relative) {
            return Ok(Named::Sent(sent));
        }
    }
    let by_path = below(context, wanted, "conversations").and_then(|relative| {
        let (directory, file) = (relative.parent()?, relative.file_name()?);
        Sent::read(context.root.join(directory).join(delivery::DIRECTORY).join(file))
    });
    let by_name = || {
        let file = Some(wanted.as_os_str()).filter(|_| wanted.components().count() == 1)?;
        deliveries(context).into_iter().filter(|(name, _)| name == file).find_map(|(_, path)| Sent::read(path))
    };
    by_path.or_else(by_name).map(Named::Sent).ok_or_else(|| {
        let cause = format!("there is no message of ours called {}", output::shown(wanted));
        let remedy = "Name its path in conversations/, its name there, or the path that `chatterbox send` printed. Where its conversation was moved \
                      away, put that back.";
        Failure::new(Exit::NoInput, doing, cause, remedy)
    })
}

/// The newest message that came from this path in the outbox.
pub(super) fn from_outbox(context: &Context, relative: &Path) -> Option<Sent> {
    let wanted = name::escape_path(relative);
    let all = deliveries(context).into_iter().filter_map(|(_, path)| Sent::read(path));
    all.into_iter().find(|sent| sent.delivery.outbox.as_ref() == Some(&wanted))
}

/// The same of a file that was there at a time, if that is known: one of an earlier file of its name was written before.
pub(super) fn from_outbox_since(context: &Context, relative: &Path, since: Option<Timestamp>) -> Option<Sent> {
    let time = |sent: &Sent| Timestamp::of_name(&sent.delivery.file);
    from_outbox(context, relative).filter(|sent| time(sent).zip(since).is_none_or(|(time, since)| time >= since))
}

/// All `.delivery` files, the newest first: their names begin with the time.
fn deliveries(context: &Context) -> Vec<(std::ffi::OsString, PathBuf)> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let conversations = entries(&context.root.conversations());
    let places = conversations.map(|entry| entry.path().join(delivery::DIRECTORY));
    let mut all: Vec<_> =
        places.flat_map(|place| entries(&place)).map(|entry| (entry.file_name(), entry.path())).collect();
    all.sort_unstable_by(|left, right| right.cmp(left));
    all
}

/// A path that leads to `conversations/` or `outbox/` of this root, as it is or from here, relative to the root.
fn below(context: &Context, wanted: &Path, first: &str) -> Option<PathBuf> {
    let is_below = |relative: &Path| {
        let mut components = relative.components();
        let begins = components.next() == Some(Component::Normal(OsStr::new(first)));
        begins && components.count() >= 2 && relative.components().all(|part| matches!(part, Component::Normal(_)))
    };
    let root = fs::canonicalize(context.root.path()).ok()?;
    // The directory leads somewhere even where the file is gone.
    let resolved = wanted.parent().and_then(|parent| {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(fs::canonicalize(parent).ok()?.join(wanted.file_name()?))
    });
    let from_here = resolved.and_then(|path| path.strip_prefix(&root).map(Path::to_owned).ok());
    from_here.filter(|relative| is_below(relative)).or_else(|| Some(wanted.to_owned()).filter(|path| is_below(path)))
}

/// When a file got its name or its content.
pub(super) fn changed(found: &fs::Metadata) -> Timestamp {
    let micros = found.ctime().saturating_mul(1_000_000).saturating_add(found.ctime_nsec() / 1_000);
    Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
}
