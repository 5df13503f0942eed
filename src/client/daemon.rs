//! The daemon: one thread for the engine and the disk, tasks for the connections, and one bounded queue from these to
//! that (design, sections 6 and 9).
//!
//! ```text
//! watcher, ticker, home, couriers -> queue of events -> engine -> journal -> what may follow -> home, couriers
//! ```

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::account::{self, Account};
use super::courier;
pub use super::daemon_error::DaemonError;
use super::engine::Engine;
use super::event::Event;
use super::home::{self, Home};
use super::hook_runner;
use super::hooks::HookQueue;
use super::policy::Policy;
use super::root::Root;
use super::state::StateError;
use super::status::Status;
use super::status_file::StatusFile;
use super::traffic::Traffic;
use super::watching::Watching;
use super::worker::{self, Worker};
use crate::disk::atomic;
use crate::disk::journal::Journal;
use crate::disk::lock::RootLock;
use crate::disk::watch::{WatchError, Watcher};
use crate::limits::{
    DISK_RETRY_MS, EVENT_QUEUE_MAX, LEASE_RETRY_MS, LOCK_RETRY_MS, LOCK_TRIES_MAX, START_RETRY_MAX_MS,
};
use crate::net::dialer::{Dialer, Plan, Progress, Way};

/// Runs the daemon of `root` until `stop` is ready. A disk that is full, read-only or failing is waited for, and so is a place
/// that what is recorded must go to.
///
/// # Errors
/// [`DaemonError`], before anything was sent or received.
pub async fn run(
    root: Root,
    plan: &Plan,
    (traffic, policy): (Traffic, Policy),
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    if root.disk().stat(&root.config()).is_err() {
        return Err(DaemonError::NoAccount(root.path().to_owned()));
    }
    let mut stop = pin!(stop);
    let Some((lock, journal, engine)) = begin_patiently(&root, &plan.way, policy, stop.as_mut()).await? else {
        return Ok(());
    };
    let own = Account::load(&root)?;
    let dialer = Dialer::start(plan)?;
    let (events, queue) = mpsc::channel(EVENT_QUEUE_MAX);
    let (home_orders, home_queue) = mpsc::unbounded_channel();
    let (courier_orders, courier_queue) = mpsc::unbounded_channel();
    let (hooks, occasions) = HookQueue::new();
    let watching = Watching::new(root.clone(), watcher(events.clone())?);

    let progress = dialer.progress();
    let server = own.profile.profile().server.clone();
    let (key, mean) = (own.keys.transport.clone(), traffic.schedule.mean());
    let home = Home { server: server.clone(), key, dialer: dialer.clone(), mean };
    let (returned, returns) = watch::channel(0);
    let tasks = [
        tokio::spawn(tell_progress(progress, events.clone())),
        tokio::spawn(home::run(home, events.clone(), home_queue, returned)),
        tokio::spawn(courier::carry_out(traffic, dialer, server, events.clone(), courier_queue, returns)),
        tokio::spawn(tick(events.clone())),
        tokio::spawn(hook_runner::run(root.clone(), occasions, events.clone())),
    ];
    let stopping = Arc::new(AtomicBool::new(false));
    let (done, ended) = oneshot::channel();
    let status = StatusFile::new(root.clone(), &plan.way, traffic.schedule.describe());
    let worker = Worker {
        root,
        lock: Some(lock),
        journal,
        engine,
        queue,
        home: home_orders,
        couriers: courier_orders,
        watching,
        hooks,
        stopping: stopping.clone(),
        abandoned: false,
        status,
        not_emptied: None,
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
    result.map_err(|_| DaemonError::Fault)?
}

/// Begins, and waits where that may help: for who only looks at the lock, for a disk, and for what is in the way. None if the
/// stop comes first.
async fn begin_patiently(
    root: &Root,
    way: &Way,
    policy: Policy,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<(RootLock, Journal, Engine)>, DaemonError> {
    let mut retry_ms = DISK_RETRY_MS;
    let mut looks = 0;
    loop {
        let wait_ms = match begin(root, policy) {
            Err(error) if error.is_looked_at() && looks < LOCK_TRIES_MAX => {
                if looks == 0 {
                    tracing::info!(%error, "the start waits for them");
                }
                looks += 1;
                LOCK_RETRY_MS
            }
            Err(error) if error.is_disk_trouble() || error.is_in_the_way() => {
                say_paused(root, way, &error);
                let wait_ms = retry_ms;
                retry_ms = (2 * retry_ms).min(START_RETRY_MAX_MS);
                wait_ms
            }
            result => return result.map(Some),
        };
        tokio::select! {
            () = &mut stop => return Ok(None),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

/// Takes the lock, makes what is missing, replays the journal, reads all state.
fn begin(root: &Root, policy: Policy) -> Result<(RootLock, Journal, Engine), DaemonError> {
    // Somebody who starts over has an account, and not even the place of the lock.
    atomic::make_private_directory(root.disk(), &root.journal())?;
    let lock = RootLock::acquire(&root.lock())?;
    account::make_directories(root)?;
    let (journal, mut engine) = worker::open(root, policy)?;
    engine.trust_the_stop()?;
    Ok((lock, journal, engine))
}

/// What a daemon says that cannot begin.
fn say_paused(root: &Root, way: &Way, error: &DaemonError) {
    tracing::error!(%error, "the start waits until the disk takes it");
    let status = Status {
        running: true,
        pid: std::process::id(),
        connection: "starting".into(),
        paused: Some(format!("{error}; {}it is tried again", error.remedy())),
        ..Status::default()
    };
    // On a disk that takes nothing the log has to do.
    StatusFile::new(root.clone(), way, None).write(&status);
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

/// Tells the engine how far the dialer is, where it cannot dial at once.
async fn tell_progress(progress: Option<watch::Receiver<Progress>>, events: mpsc::Sender<Event>) {
    let Some(mut progress) = progress else { return };
    loop {
        let text = progress.borrow_and_update().text.clone();
        if events.send(Event::Tor(text)).await.is_err() || progress.changed().await.is_err() {
            return;
        }
    }
}
