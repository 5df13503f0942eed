//! Hints that something changed (inotify, through the `notify` crate). The directory is the truth; who gets a hint looks.
//!
//! Hints come in the kernel's order through a queue of bounded length. When it is full, when the kernel dropped events
//! or anything else went wrong, one [`Hint::Rescan`] stands for all that was lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use notify::event::{AccessKind, AccessMode, EventKind, Flag, ModifyKind, RenameMode};
use notify::{Config, Event, INotifyWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;

use crate::limits::WATCH_QUEUE_MAX;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// At this path: it was made, closed after writing, moved in or away, linked, removed, or had its mode changed.
    Path(PathBuf),
    /// Everywhere.
    Rescan,
}

/// Watches directories, each by itself. Stops when dropped.
#[derive(Debug)]
pub struct Watcher {
    inotify: INotifyWatcher,
}

/// Why something is not watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The user's share of inotify watches is used up: `fs.inotify.max_user_watches`.
    #[error("watching {}: no inotify watches are left (sysctl fs.inotify.max_user_watches)", path.display())]
    NoMoreWatches {
        /// The directory that is not watched.
        path: PathBuf,
    },
    /// Anything else.
    #[error("watching {}: {cause}", path.display())]
    Io {
        /// The directory that is not watched; `inotify` if nothing can be.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl WatchError {
    /// Whether trying again later may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoMoreWatches { .. } => true,
            Self::Io { cause, .. } => super::atomic::is_temporary(cause),
        }
    }
}

impl Watcher {
    /// A watcher that gives its hints to `sink`, on a thread of its own. `sink` may block: the queue before it is
    /// bounded.
    ///
    /// # Errors
    /// [`WatchError::Io`]: no inotify instance (`fs.inotify.max_user_instances`) or no thread is to be had.
    pub fn new(sink: impl Fn(Hint) + Send + 'static) -> Result<Self, WatchError> {
        Self::with_queue(WATCH_QUEUE_MAX, sink)
    }

    fn with_queue(length: usize, sink: impl Fn(Hint) + Send + 'static) -> Result<Self, WatchError> {
        let failed = |cause| WatchError::Io { path: PathBuf::from("inotify"), cause };
        let (queue, hints) = queue(length);
        // Ends when the watcher is dropped, which drops the queue.
        let forwarder = thread::Builder::new().name("watch".to_owned());
        forwarder.spawn(move || hints.forward(sink)).map_err(failed)?;
        let handler = move |event: notify::Result<Event>| queue.take(event);
        let inotify = INotifyWatcher::new(handler, Config::default())
            .map_err(|error| watch_error(Path::new("inotify"), error))?;
        Ok(Self { inotify })
    }

    /// Watches what happens directly in `directory`. False if there is no such directory (any more). What happened
    /// before is not hinted at: scan it afterwards.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn watch(&mut self, directory: &Path) -> Result<bool, WatchError> {
        match self.inotify.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => Ok(true),
            Err(error) if is_vanished(&error) => Ok(false),
            Err(error) => Err(watch_error(directory, error)),
        }
    }

    /// Stops watching `directory`. One that is not watched, or is gone, is fine.
    pub fn unwatch(&mut self, directory: &Path) {
        // The only failures are that there is no such watch, here or in the kernel, which is what was asked for.
        let _ = self.inotify.unwatch(directory);
    }
}

fn is_vanished(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(cause) => super::atomic::is_absent(cause) || cause.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn watch_error(path: &Path, error: notify::Error) -> WatchError {
    let path = path.to_owned();
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => WatchError::NoMoreWatches { path },
        notify::ErrorKind::Io(cause) => WatchError::Io { path, cause },
        other => WatchError::Io { path, cause: io::Error::other(format!("{other:?}")) },
    }
}

/// The two ends of the bounded queue.
struct Queue {
    sender: SyncSender<Hint>,
    overflowed: Arc<AtomicBool>,
}

struct Hints {
    receiver: Receiver<Hint>,
    overflowed: Arc<AtomicBool>,
}

fn queue(length: usize) -> (Queue, Hints) {
    let (sender, receiver) = sync_channel(length);
    let overflowed = Arc::new(AtomicBool::new(false));
    (Queue { sender, overflowed: Arc::clone(&overflowed) }, Hints { receiver, overflowed })
}

impl Queue {
    fn take(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.attrs.flag() == Some(Flag::Rescan) => self.push(Hint::Rescan),
            Ok(event) if is_news(&event.kind) => event.paths.into_iter().for_each(|path| self.push(Hint::Path(path))),
            Ok(_) => {}
            Err(_) => self.push(Hint::Rescan),
        }
    }

    fn push(&self, hint: Hint) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(hint) {
            // First the flag: if the queue is still full afterwards, the forwarder will take something out of it and
            // see the flag; if not, the hint itself gets through.
            self.overflowed.store(true, Ordering::SeqCst);
            let _ = self.sender.try_send(Hint::Rescan);
        }
    }
}

impl Hints {
    fn forward(self, sink: impl Fn(Hint)) {
        while let Ok(hint) = self.receiver.recv() {
            sink(hint);
            if self.overflowed.swap(false, Ordering::SeqCst) {
                sink(Hint::Rescan);
            }
        }
    }
}

/// Reading and opening is our own noise, and a plain write is followed by a close. `Both` repeats a move's two halves.
fn is_news(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Name(rename)) => *rename != RenameMode::Both,
        EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(_) | EventKind::Any | EventKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// For a hint that never comes. Not a wait: hints that do come end it.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn watcher() -> (Watcher, Receiver<Hint>) {
        let (sender, receiver) = channel();
        (Watcher::new(move |hint| drop(sender.send(hint))).unwrap(), receiver)
    }

    fn wait_for(hints: &Receiver<Hint>, path: &Path) {
        while hints.recv_timeout(PATIENCE).unwrap() != Hint::Path(path.to_owned()) {}
    }

    #[test]
    fn files_closed_moved_in_linked_and_removed_are_hinted_at_in_order() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut watcher, hints) = watcher();
        assert!(watcher.watch(inside.path()).unwrap());
        let at = |name: &str| inside.path().join(name);
        fs::write(at("closed"), "x").unwrap();
        fs::write(outside.path().join("x"), "x").unwrap();
        fs::hard_link(outside.path().join("x"), at("linked")).unwrap();
        fs::rename(outside.path().join("x"), at("moved")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::remove_file(at("closed")).unwrap();
        for name in ["closed", "linked", "moved", "directory", "closed"] {
            wait_for(&hints, &at(name));
        }
    }

    #[test]
    fn opening_reading_and_writing_without_closing_give_no_hint() {
        let directory = tempfile::tempdir().unwrap();
        let (quiet, end) = (directory.path().join("quiet"), directory.path().join("end"));
        let mut file = fs::File::create(&quiet).unwrap();
        let (mut watcher, hints) = watcher();
        watcher.watch(directory.path()).unwrap();
        file.write_all(b"x").unwrap();
        fs::read(&quiet).unwrap();
        fs::write(&end, "x").unwrap();
        assert_eq!(hints.recv_timeout(PATIENCE).unwrap(), Hint::Path(end));
    }

    #[test]
    fn a_vanished_directory_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let (mut watcher, hints) = watcher();
        assert!(!watcher.watch(&directory).unwrap());
        fs::create_dir(&directory).unwrap();
        assert!(watcher.watch(&directory).unwrap());
        fs::remove_dir(&directory).unwrap();
        wait_for(&hints, &directory);
        watcher.unwatch(&directory);
        watcher.unwatch(&directory);
        fs::create_dir(&directory).unwrap();
        assert!(watcher.watch(&directory).unwrap());
        fs::write(directory.join("x"), "x").unwrap();
        wait_for(&hints, &directory.join("x"));
    }

    #[test]
    fn what_does_not_fit_the_queue_becomes_a_rescan_after_what_does() {
        let (queue, hints) = queue(2);
        for number in 0..5 {
            queue.push(Hint::Path(PathBuf::from(number.to_string())));
        }
        drop(queue);
        let (sender, seen) = channel();
        hints.forward(move |hint| sender.send(hint).unwrap());
        let seen: Vec<_> = seen.iter().collect();
        assert_eq!(seen, [Hint::Path("0".into()), Hint::Rescan, Hint::Path("1".into())]);
    }

    #[test]
    fn events_that_the_kernel_dropped_become_a_rescan() {
        let (queue, hints) = queue(2);
        queue.take(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        queue.take(Err(notify::Error::generic("x")));
        drop(queue);
        assert_eq!(hints.receiver.iter().collect::<Vec<_>>(), [Hint::Rescan, Hint::Rescan]);
    }
}
