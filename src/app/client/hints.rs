//! Hints that something happened in a directory: what counts is the look behind each.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Without a watcher (the system has no more) a look now and then does.
pub(super) struct Hints {
    events: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
}

impl Hints {
    pub(super) fn new() -> Self {
        let (sender, events) = mpsc::sync_channel(1);
        let handler = move |event: notify::Result<notify::Event>| {
            // Opening a file is an event as well, and whoever waits opens one at every look.
            if !matches!(event.map(|event| event.kind), Ok(EventKind::Access(_))) {
                // Full means that a hint waits already.
                let _ = sender.try_send(());
            }
        };
        Self { events, watcher: notify::recommended_watcher(handler).ok(), watched: Vec::new() }
    }

    /// Watches a directory from now on. To be called before the first look at it, so that nothing happens unseen in between.
    pub(super) fn watch(&mut self, directory: &Path) {
        if self.watched.iter().any(|watched| watched == directory) {
            return;
        }
        if let Some(watcher) = &mut self.watcher
            && watcher.watch(directory, RecursiveMode::NonRecursive).is_ok()
        {
            self.watched.push(directory.to_owned());
        }
    }

    /// Waits for a hint, and no longer than `pause`.
    pub(super) fn next(&self, pause: Duration) {
        if let Err(RecvTimeoutError::Disconnected) = self.events.recv_timeout(pause) {
            std::thread::sleep(pause);
        }
    }
}
