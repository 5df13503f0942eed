//! The engine's thread: events, transaction, commit, what may follow; and what it does when the disk does not take it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::account::Account;
use super::commit::Consequences;
use super::daemon_error::DaemonError;
use super::engine::Engine;
use super::event::{Event, HomeOrder, Order};
use super::hooks::HookQueue;
use super::policy::Policy;
use super::requests;
use super::root::{Root, WATCHED};
use super::status::Status;
use super::status_file::StatusFile;
use super::watching::Watching;
use crate::clock::{self, Timestamp};
use crate::disk::journal::{Journal, JournalError, Transaction};
use crate::disk::lock::RootLock;
use crate::disk::watch::Hint;
use crate::limits::{
    BATCH_EVENTS_MAX, CHECKPOINT_AGE_MS, DISK_RETRY_MS, IDLE_CHECKPOINT_MS, RESCAN_INTERVAL_MS, START_RETRY_MAX_MS,
};

/// Replays the journal, then reads all state.
pub(super) fn open(root: &Root, policy: Policy) -> Result<(Journal, Engine), DaemonError> {
    let (journal, replayed) = Journal::open(root.shared_disk(), root.path())?;
    if replayed.transactions > 0 {
        tracing::info!(transactions = replayed.transactions, "finished what was begun before");
        requests::remove_ghosts(root, &replayed.directories);
    }
    Ok((journal, Engine::load(root.clone(), policy)?))
}

/// The engine's thread.
pub(super) struct Worker {
    pub(super) root: Root,
    pub(super) lock: Option<RootLock>,
    pub(super) journal: Journal,
    pub(super) engine: Engine,
    pub(super) queue: mpsc::Receiver<Event>,
    pub(super) home: mpsc::UnboundedSender<HomeOrder>,
    pub(super) couriers: mpsc::UnboundedSender<Order>,
    pub(super) watching: Watching,
    pub(super) hooks: HookQueue,
    pub(super) stopping: Arc<AtomicBool>,
    /// A transaction was given up because we were told to stop while the disk did not take it: memory is ahead of the
    /// disk, and nothing may follow from it.
    pub(super) abandoned: bool,
    pub(super) status: StatusFile,
    /// Why old secrets are still in the journal.
    pub(super) not_emptied: Option<String>,
}

impl Worker {
    /// Until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), DaemonError> {
        let mut found = self.rescan();
        if let Some(directories) = &found {
            self.engine.restore_outbox(directories);
        }
        // Not the time of day, which may jump back.
        let mut looked = Instant::now();
        let mut committed = looked;
        let mut emptied = looked;
        tracing::info!("running");
        while !self.is_stopping() {
            if self.await_root()? {
                found = self.rescan();
            }
            self.note_untaken();
            let mut more = self.engine.work_outbox(Timestamp::now());
            more |= self.engine.work_arriving(Timestamp::now());
            self.watch_directories();
            if self.commit()? {
                committed = Instant::now();
            }
            // What has just been written can be hashed.
            more |= self.engine.has_arrived();
            let is_idle = committed.elapsed().as_millis() > IDLE_CHECKPOINT_MS.into();
            if self.journal.log_bytes() == 0 {
                emptied = Instant::now();
            } else if is_idle || emptied.elapsed().as_millis() > CHECKPOINT_AGE_MS.into() {
                self.checkpoint()?;
                (committed, emptied) = (Instant::now(), Instant::now());
            }
            self.write_status(None);
            let wants_scan = found.is_none() || looked.elapsed().as_millis() >= RESCAN_INTERVAL_MS.into();
            let first = if more { self.queue.try_recv().ok() } else { self.queue.blocking_recv() };
            if let Some(event) = first {
                self.handle(event);
            }
            for _ in 1..BATCH_EVENTS_MAX {
                if self.engine.is_full() {
                    break;
                }
                let Ok(event) = self.queue.try_recv() else { break };
                self.handle(event);
            }
            if wants_scan {
                found = self.rescan();
                looked = Instant::now();
            }
        }
        if !self.abandoned && self.journal.check_root().is_ok() {
            self.engine.stop_sending();
            self.commit()?;
        }
        if !self.abandoned && self.journal.check_root().is_ok() {
            if let Err(error) = self.journal.checkpoint() {
                tracing::warn!(%error, "the journal could not be emptied; the next start finishes it");
            }
            self.write_stopped();
        }
        drop(self.lock);
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn handle(&mut self, event: Event) {
        if matches!(event, Event::Tick) {
            self.look_again();
            self.status.tick();
        }
        if let Err(error) = self.engine_handles(event) {
            // Only looks at the directory fail; the next look finds what this one missed.
            tracing::warn!(%error, "looking at the directory");
        }
    }

    /// With the time since the machine was started, asked with the clock: a sleep between two events is no jump of it.
    fn engine_handles(&mut self, event: Event) -> io::Result<()> {
        self.engine.steady.note_uptime(clock::uptime_ms());
        self.engine.handle(event, Timestamp::now())
    }

    /// Once a second: at what gives no hint.
    fn look_again(&mut self) {
        if let Err(error) = self.journal.settle() {
            tracing::warn!(%error, "looking at files that were sent and are open for writing");
        }
        for directory in self.watching.changed() {
            self.engine.watched(&directory);
        }
    }

    /// The engine knows which files are sent and cannot leave the outbox yet.
    fn note_untaken(&mut self) {
        let untaken: Vec<_> = self.journal.untaken().collect();
        self.engine.note_untaken(&untaken);
    }

    /// Looks at the whole directory. None if that failed; then it is tried again soon.
    fn rescan(&mut self) -> Option<Vec<PathBuf>> {
        // These may have been replaced by others of the same names.
        for directory in WATCHED {
            self.watching.watch(Path::new(directory));
        }
        if let Err(error) = self.engine_handles(Event::Hint(Hint::Rescan)) {
            self.write_status(Some(format!("the directory cannot be read: {error}")));
            return None;
        }
        Some(self.watch_directories())
    }

    /// Watches the outbox directories that were found, and looks at each once more behind its watch.
    fn watch_directories(&mut self) -> Vec<PathBuf> {
        let directories = self.engine.take_directories();
        for directory in &directories {
            if self.watching.watch(directory) {
                self.engine.watched(directory);
            }
        }
        directories
    }

    /// Waits for the root where it has gone away: nothing is read or written in its place. True if it was away.
    fn await_root(&mut self) -> Result<bool, DaemonError> {
        let mut was_away = false;
        while let Err(error) = self.journal.check_root() {
            if self.is_stopping() {
                self.abandoned = true;
                return Ok(was_away);
            }
            if self.is_ours_again() {
                self.open_anew()?;
                return Ok(true);
            }
            if !was_away {
                tracing::error!(%error, "work pauses until the directory is back");
            }
            was_away = true;
            std::thread::park_timeout(Duration::from_millis(DISK_RETRY_MS));
        }
        if was_away {
            tracing::info!("the directory is back");
        }
        Ok(was_away)
    }

    /// Whether the root's place is taken by a directory with our own account in it.
    fn is_ours_again(&self) -> bool {
        let ours = self.engine.account.profile.identity();
        Account::load(&self.root).is_ok_and(|found| found.profile.identity() == ours)
    }

    /// Puts what changed on disk: records it, lets happen what may follow from it, then brings every file to its place. A
    /// disk that does not take it pauses all work until it does; nothing has left this machine before it is recorded.
    /// True if there was something.
    fn commit(&mut self) -> Result<bool, DaemonError> {
        let mut batch: Vec<Transaction> = self.engine.transaction().into_iter().collect();
        let anything = !batch.is_empty();
        if anything && !self.insist(|journal| journal.record(&mut batch))? {
            return Ok(true);
        }
        self.reveal();
        if anything && !self.insist(Journal::apply)? {
            return Ok(true);
        }
        if anything && self.journal.log_bytes() == 0 {
            self.engine.checkpointed();
        }
        self.hooks.add(self.engine.applied());
        Ok(anything)
    }

    /// What follows from what is recorded.
    fn reveal(&mut self) {
        let Consequences { deletions, uploads: prekeys, replaces, counter, count, orders, reconnect } =
            self.engine.recorded(Timestamp::now());
        // The tasks end only after this thread; a queue that is closed means that all of it is ending.
        if !deletions.is_empty() {
            let _ = self.home.send(HomeOrder::Delete(deletions));
        }
        if !prekeys.is_empty() {
            let _ = self.home.send(HomeOrder::Upload { prekeys, replaces });
        }
        if let Some((number, record)) = counter {
            let _ = self.home.send(HomeOrder::WriteCounter(number, record));
        }
        if count {
            let _ = self.home.send(HomeOrder::Count);
        }
        if reconnect {
            let _ = self.home.send(HomeOrder::Reconnect);
        }
        for order in orders {
            let _ = self.couriers.send(order);
        }
    }

    /// Does something with the journal, however long the disk takes. False if all state was read anew instead, or we are
    /// to stop.
    fn insist(&mut self, mut work: impl FnMut(&mut Journal) -> Result<(), JournalError>) -> Result<bool, DaemonError> {
        let mut has_paused = false;
        while let Err(error) = work(&mut self.journal) {
            if !error.is_temporary() {
                return Err(error.into());
            }
            if error.is_disk_full() {
                self.engine.make_room();
            }
            self.pause(&error);
            has_paused = true;
            if self.is_stopping() {
                self.abandoned = true;
                return Ok(false);
            }
            let has_moved = self.journal.check_root().is_err() && self.is_ours_again();
            if self.journal.is_poisoned() || has_moved {
                return self.open_anew().map(|()| false);
            }
        }
        if has_paused {
            tracing::info!("the disk takes it again");
        }
        Ok(true)
    }

    /// After a failed sync, or on a disk that was torn out and plugged in again: nobody knows what is on disk but the disk.
    /// Envelopes that were pushed meanwhile come again on the next connection, and outbox files are found by the next
    /// look.
    fn open_anew(&mut self) -> Result<(), DaemonError> {
        let mut wait_ms = DISK_RETRY_MS;
        loop {
            let error = match self.try_open_anew() {
                Ok((journal, engine)) => {
                    self.journal = journal;
                    // Tor knows nothing of disks, and says only what is news.
                    let tor = self.engine.tor.take();
                    // Nor does the disk of these.
                    let alerts = self.engine.pending.alerts.take_over();
                    self.engine = Engine { tor, ..engine };
                    self.engine.pending.alerts = alerts;
                    let _ = self.home.send(HomeOrder::Reconnect);
                    self.rescan();
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_temporary = matches!(&error, DaemonError::Journal(error) if error.is_temporary());
            if !is_temporary && !error.is_disk_trouble() && !error.is_looked_at() {
                return Err(error);
            }
            self.pause_for(&error, error.remedy(), wait_ms);
            if self.is_stopping() {
                self.abandoned = true;
                return Ok(());
            }
            wait_ms = (2 * wait_ms).min(START_RETRY_MAX_MS);
        }
    }

    fn try_open_anew(&mut self) -> Result<(Journal, Engine), DaemonError> {
        if let Err(gone) = self.journal.check_root() {
            if !self.is_ours_again() {
                // Nothing is made in the place of what is gone.
                return Err(gone.into());
            }
            // The same account on what the kernel takes for another filesystem: our lock is on the old one.
            self.lock = None;
            self.lock = Some(RootLock::acquire(&self.root.lock())?);
        }
        open(&self.root, self.engine.policy)
    }

    fn pause(&mut self, error: &JournalError) {
        self.pause_for(error, error.remedy(), DISK_RETRY_MS);
    }

    fn pause_for(&mut self, error: &dyn std::error::Error, remedy: &str, wait_ms: u64) {
        tracing::error!(%error, "work pauses until the disk takes it");
        self.write_status(Some(format!("{error}; {remedy}it is tried again")));
        // In short stretches, so that a stop is heard.
        let end = Instant::now() + Duration::from_millis(wait_ms);
        while Instant::now() < end && !self.is_stopping() {
            std::thread::park_timeout(Duration::from_millis(DISK_RETRY_MS.min(wait_ms)));
        }
    }

    /// Empties the log while nothing else is to be done.
    fn checkpoint(&mut self) -> Result<(), DaemonError> {
        let Err(error) = self.journal.checkpoint() else {
            self.engine.checkpointed();
            self.not_emptied = None;
            return Ok(());
        };
        tracing::warn!(%error, "the journal could not be emptied; it is tried again");
        self.not_emptied = Some(format!("the journal could not be emptied: {error}; it is tried again"));
        if self.journal.is_poisoned() {
            self.pause(&error);
            self.open_anew()?;
        }
        Ok(())
    }

    fn write_status(&mut self, paused: Option<String>) {
        let paused = paused.or_else(|| self.not_emptied.clone());
        let paused = paused.or_else(|| self.watching.reason().map(str::to_owned));
        if self.journal.check_root().is_ok() {
            let mut status = self.engine.status(paused, self.journal.unsettled());
            status.hooks.extend(self.hooks.missed().map(|(hook, count)| {
                (hook.file_name().to_owned(), format!("{count} times not run, because too many waited"))
            }));
            self.status.write(&status);
        }
    }

    fn write_stopped(&mut self) {
        let status = self.engine.status(None, self.journal.unsettled());
        self.status.write(&Status {
            running: false,
            tor: None,
            connected: false,
            connection: "stopped".into(),
            ..status
        });
    }
}
