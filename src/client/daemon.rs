//! The daemon: one thread for the engine and the disk, tasks for the connections, and one bounded queue from these to
//! that (design, sections 6 and 9).
//!
//! ```text
//! watcher, ticker, home, couriers -> queue of events -> engine -> journal -> what may follow -> home, couriers
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::account;
use super::courier;
use super::engine::{Consequences, Engine};
use super::event::{Event, HomeOrder, Order};
use super::home::{self, Home};
use super::root::Root;
use super::state::StateError;
use crate::clock::Timestamp;
use crate::disk::atomic::{self, AtomicError};
use crate::disk::journal::{Journal, JournalError, Outcome, Transaction};
use crate::disk::lock::{LockError, RootLock};
use crate::disk::watch::{Hint, WatchError, Watcher};
use crate::limits::{
    BATCH_EVENTS_MAX, DISK_RETRY_MS, EVENT_QUEUE_MAX, IDLE_CHECKPOINT_MS, LEASE_RETRY_MS, RESCAN_INTERVAL_MS,
};
use crate::net::dialer::Dialer;

/// Why the daemon does not run (any more).
#[derive(Debug, Error)]
pub enum DaemonError {
    /// No account.
    #[error("there is no account in {}", .0.display())]
    NoAccount(PathBuf),
    /// Another daemon runs.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// The journal cannot be opened.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// A state file cannot be read.
    #[error("{0}")]
    State(#[from] StateError),
    /// The directory cannot be watched at all.
    #[error("{0}")]
    Watch(#[from] WatchError),
    /// A directory cannot be made.
    #[error("{0}")]
    Disk(#[from] AtomicError),
    /// The engine's thread ended with a fault of ours.
    #[error("the engine ended by a fault of the program")]
    Fault,
}

/// Runs the daemon of `root` until `stop` is ready.
///
/// # Errors
/// [`DaemonError`], before anything was sent or received.
pub async fn run(root: Root, dialer: Dialer, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
    if !root.config().exists() {
        return Err(DaemonError::NoAccount(root.path().to_owned()));
    }
    let lock = RootLock::acquire(&root.lock())?;
    account::make_directories(&root)?;
    let (journal, engine) = open(&root)?;
    let own = account::Account::load(&root)?;
    let (events, queue) = mpsc::channel(EVENT_QUEUE_MAX);
    let (home_orders, home_queue) = mpsc::unbounded_channel();
    let (courier_orders, courier_queue) = mpsc::unbounded_channel();
    let watcher = watcher(events.clone())?;

    let home = Home { server: own.profile.profile().server.clone(), key: own.keys.transport.clone(), dialer };
    let tasks = [
        tokio::spawn(home::run(home, events.clone(), home_queue)),
        tokio::spawn(courier::dispatch(dialer, events.clone(), courier_queue)),
        tokio::spawn(tick(events.clone())),
    ];
    let stopping = Arc::new(AtomicBool::new(false));
    let (done, ended) = oneshot::channel();
    let worker = Worker {
        root,
        journal,
        engine,
        queue,
        home: home_orders,
        couriers: courier_orders,
        watcher,
        unwatched: None,
        stopping: stopping.clone(),
        abandoned: false,
        status: String::new(),
    };
    let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
        // Nobody listens only if the runtime is gone, and then nothing is to be told.
        let _ = done.send(worker.run());
    });
    thread.map_err(|cause| StateError::io(Path::new("the engine's thread"), cause))?;

    let mut ended = ended;
    let early = tokio::select! {
        () = stop => None,
        ended = &mut ended => Some(ended),
    };
    let result = match early {
        Some(result) => result,
        None => {
            stopping.store(true, Ordering::Relaxed);
            // A full queue wakes the engine as well as this event would.
            let _ = events.try_send(Event::Stop);
            ended.await
        }
    };
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    drop(lock);
    result.map_err(|_| DaemonError::Fault)?
}

/// Replays the journal, then reads all state.
fn open(root: &Root) -> Result<(Journal, Engine), DaemonError> {
    let (journal, replayed) = Journal::open(root.path())?;
    if replayed.transactions > 0 {
        tracing::info!(transactions = replayed.transactions, "finished what was begun before");
    }
    Ok((journal, Engine::load(root.clone())?))
}

fn watcher(events: mpsc::Sender<Event>) -> Result<Watcher, WatchError> {
    // An engine that is gone needs no hints.
    Watcher::new(move |hint| drop(events.blocking_send(Event::Hint(hint))))
}

async fn tick(events: mpsc::Sender<Event>) {
    let mut interval = tokio::time::interval(Duration::from_millis(LEASE_RETRY_MS));
    loop {
        interval.tick().await;
        if events.send(Event::Tick).await.is_err() {
            return;
        }
    }
}

/// The engine's thread.
struct Worker {
    root: Root,
    journal: Journal,
    engine: Engine,
    queue: mpsc::Receiver<Event>,
    home: mpsc::UnboundedSender<HomeOrder>,
    couriers: mpsc::UnboundedSender<Order>,
    watcher: Watcher,
    /// Why a directory is not watched, if one is not: it is looked at now and then all the same.
    unwatched: Option<String>,
    stopping: Arc<AtomicBool>,
    /// A transaction was given up because we were told to stop while the disk did not take it: memory is ahead of the
    /// disk, and nothing may follow from it.
    abandoned: bool,
    status: String,
}

impl Worker {
    fn run(mut self) -> Result<(), DaemonError> {
        let mut found = self.rescan();
        if let Some(directories) = &found {
            self.engine.restore_outbox(directories);
        }
        let mut looked = Timestamp::now();
        let mut committed = looked;
        tracing::info!("running");
        while !self.stopping.load(Ordering::Relaxed) {
            let more = self.engine.work_outbox(Timestamp::now());
            self.watch_directories();
            if self.commit()? {
                committed = Timestamp::now();
            } else if self.journal.log_bytes() > 0 && Timestamp::now().millis_since(committed) > IDLE_CHECKPOINT_MS {
                self.checkpoint();
            }
            self.write_status(None);
            let wants_scan = found.is_none() || Timestamp::now().millis_since(looked) >= RESCAN_INTERVAL_MS;
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
                looked = Timestamp::now();
            }
        }
        if !self.abandoned {
            self.commit()?;
            self.checkpoint();
        }
        self.write_stopped();
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        if let Err(error) = self.engine.handle(event, Timestamp::now()) {
            // Only looks at the directory fail; the next look finds what this one missed.
            tracing::warn!(%error, "looking at the directory");
        }
    }

    /// Looks at the whole directory. None if that failed; then it is tried again soon.
    fn rescan(&mut self) -> Option<Vec<PathBuf>> {
        // These may have been replaced by others of the same names.
        self.unwatched = None;
        self.watch(Path::new("contacts"));
        self.watch(Path::new("outbox"));
        if let Err(error) = self.engine.handle(Event::Hint(Hint::Rescan), Timestamp::now()) {
            self.write_status(Some(format!("the directory cannot be read: {error}")));
            return None;
        }
        Some(self.watch_directories())
    }

    /// Watches the outbox directories that were found, and looks at each once more behind its watch.
    fn watch_directories(&mut self) -> Vec<PathBuf> {
        let directories = self.engine.take_directories();
        for directory in &directories {
            if self.watch(directory) {
                self.engine.watched(directory);
            }
        }
        directories
    }

    /// Whether the directory is watched now. inotify knows a directory made anew under an old name as another, so that a
    /// watch is asked for again whenever one is found.
    fn watch(&mut self, directory: &Path) -> bool {
        match self.watcher.watch(&self.root.join(directory)) {
            Ok(watched) => watched,
            Err(error) => {
                let text = error.to_string();
                if self.unwatched.as_ref() != Some(&text) {
                    tracing::warn!(%error, "a directory is not watched, and only looked at every minute");
                    self.unwatched = Some(text);
                }
                false
            }
        }
    }

    /// Puts what changed on disk and lets what may follow it happen. A disk that does not take it pauses all work until
    /// it does; nothing has left this machine by then. True if there was something.
    fn commit(&mut self) -> Result<bool, DaemonError> {
        let transaction = self.engine.transaction();
        let anything = transaction.is_some();
        if let Some(transaction) = transaction
            && !self.record(&[transaction])?
        {
            return Ok(true);
        }
        let Consequences { deletions, uploads, orders, reconnect } = self.engine.committed(Timestamp::now());
        // The tasks end only after this thread; a queue that is closed means that all of it is ending.
        if !deletions.is_empty() {
            let _ = self.home.send(HomeOrder::Delete(deletions));
        }
        if !uploads.is_empty() {
            let _ = self.home.send(HomeOrder::Upload(uploads));
        }
        if reconnect {
            let _ = self.home.send(HomeOrder::Reconnect);
        }
        for order in orders {
            let _ = self.couriers.send(order);
        }
        Ok(anything)
    }

    /// Commits a transaction, however long the disk takes. False if all state was read anew instead, or we are to stop.
    fn record(&mut self, batch: &[Transaction]) -> Result<bool, DaemonError> {
        let mut failed = self.journal.commit(batch).err();
        while let Some(error) = failed.take() {
            if !error.is_temporary() {
                return Err(error.into());
            }
            let outcome = error.outcome();
            self.pause(&error);
            if self.stopping.load(Ordering::Relaxed) {
                self.abandoned = true;
                return Ok(false);
            }
            if outcome == Outcome::Unknown || self.journal.is_poisoned() {
                return self.open_anew().map(|()| false);
            }
            failed = match outcome {
                Outcome::Recorded => {
                    self.journal.retry().err().map(|cause| JournalError::Unapplied { cause: cause.into() })
                }
                _ => self.journal.commit(batch).err(),
            };
        }
        Ok(true)
    }

    /// After a failed sync: nobody knows what is on disk but the disk. Envelopes that were pushed meanwhile come again
    /// on the next connection, and outbox files are found by the next look.
    fn open_anew(&mut self) -> Result<(), DaemonError> {
        loop {
            match open(&self.root) {
                Ok((journal, engine)) => {
                    self.journal = journal;
                    self.engine = engine;
                    let _ = self.home.send(HomeOrder::Reconnect);
                    self.rescan();
                    return Ok(());
                }
                Err(DaemonError::Journal(error)) if error.is_temporary() => {
                    self.pause(&error);
                    if self.stopping.load(Ordering::Relaxed) {
                        self.abandoned = true;
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn pause(&mut self, error: &JournalError) {
        tracing::error!(%error, "work pauses until the disk takes it");
        self.write_status(Some(format!("{error}; tried again every second")));
        std::thread::park_timeout(Duration::from_millis(DISK_RETRY_MS));
    }

    fn checkpoint(&mut self) {
        if let Err(error) = self.journal.checkpoint() {
            tracing::warn!(%error, "the journal could not be emptied; it is tried again");
        }
    }

    fn write_status(&mut self, paused: Option<String>) {
        let text = self.engine.status(paused.or_else(|| self.unwatched.clone())).to_string();
        self.replace_status(text);
    }

    fn write_stopped(&mut self) {
        let mut status = self.engine.status(None);
        status.running = false;
        status.connected = false;
        status.connection = "stopped".into();
        self.replace_status(status.to_string());
    }

    fn replace_status(&mut self, text: String) {
        if text == self.status {
            return;
        }
        match atomic::replace_unsynced(&self.root.tmp("chatterboxd"), &self.root.status(), text.as_bytes()) {
            Ok(()) => self.status = text,
            Err(error) => tracing::debug!(%error, "status could not be written"),
        }
    }
}
