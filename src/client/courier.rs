//! Couriers: one task a recipient, with a connection of its own to the recipient's server, fresh keys for each, never
//! shared and never over the home connection (design, section 6). One dead server holds up nobody else. Where a schedule is
//! set there are none, and [`slots`] does their work.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand_core::OsRng;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::circuit::Circuit;
use super::errands::Errands;
use super::event::{Errand, Event, Order};
use super::link::{Link, LinkError};
use super::pace;
use super::slots;
use super::traffic::Traffic;
use crate::crypto::dh::SecretKey;
use crate::limits::{
    COURIERS_CONNECTING_MAX, COURIERS_DOUBTFUL_MAX, COURIERS_MAX, COURIERS_RETRYING_MAX, FOREIGN_IDLE_MS, PIPELINE_MAX,
    RETRY_AFTER_OUTAGE_MS,
};
use crate::net::dialer::Dialer;
use crate::wire::address::ServerAddress;
use crate::wire::identity::{AccountId, Fingerprint};
use crate::wire::profile::{Profile, SignedProfile};
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::Command;

/// Carries out orders as the settings say, until the engine is gone.
pub async fn carry_out(
    traffic: Traffic,
    dialer: Dialer,
    home: ServerAddress,
    events: mpsc::Sender<Event>,
    orders: mpsc::UnboundedReceiver<Order>,
    returned: watch::Receiver<u64>,
) {
    match traffic.schedule.mean() {
        None => dispatch(traffic.fanout_delay, dialer, events, orders, returned).await,
        Some(mean) => slots::run(mean, dialer, home, events, orders).await,
    }
}

/// Hands orders to couriers, and hires one where a recipient has none, until the engine is gone. An idle courier has no
/// connection, only an empty queue. The queue from the engine is not bounded here: the spool hands out a bounded number
/// of messages ahead for each recipient.
async fn dispatch(
    delay: Duration,
    dialer: Dialer,
    events: mpsc::Sender<Event>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    returned: watch::Receiver<u64>,
) {
    let room = Room::new(Places {
        connecting: COURIERS_CONNECTING_MAX,
        retrying: COURIERS_RETRYING_MAX,
        standing: COURIERS_MAX,
        doubtful: COURIERS_DOUBTFUL_MAX,
    });
    let mut couriers: HashMap<Fingerprint, mpsc::UnboundedSender<Order>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        let courier = couriers.entry(order.recipient.identity().fingerprint()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let courier = Courier {
                dialer: dialer.clone(),
                circuit: Circuit::fresh(Instant::now(), &mut OsRng),
                returned: returned.clone(),
                room: room.clone(),
                recipient: order.recipient.clone(),
                orders: receiver,
                errands: Errands::new(delay),
                events: events.clone(),
            };
            tokio::spawn(courier.run());
            sender
        });
        // A courier ends only when the engine has, and then nothing is to be done any more.
        let _ = courier.send(order);
    }
}

/// How many couriers do something at one time. A server that lets its callers hang takes a place of those who connect, and, where
/// it has done so before, of the fewer who try again: many such servers hold up each other, and hardly anybody else. So do those that
/// let their callers in and never answer.
#[derive(Clone)]
struct Room {
    retrying: Arc<Semaphore>,
    connecting: Arc<Semaphore>,
    /// With a connection that stands.
    standing: Arc<Semaphore>,
    /// Of these, those who try again and have no answer yet.
    doubtful: Arc<Semaphore>,
}

/// How many places there are in each.
struct Places {
    retrying: usize,
    connecting: usize,
    standing: usize,
    doubtful: usize,
}

impl Room {
    fn new(Places { retrying, connecting, standing, doubtful }: Places) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            retrying: places(retrying),
            connecting: places(connecting),
            standing: places(standing),
            doubtful: places(doubtful),
        }
    }
}

struct Courier {
    dialer: Dialer,
    /// Nothing but this recipient's connections uses it.
    circuit: Circuit,
    /// How often the home connection has come back.
    returned: watch::Receiver<u64>,
    room: Room,
    recipient: SignedProfile,
    orders: mpsc::UnboundedReceiver<Order>,
    errands: Errands,
    events: mpsc::Sender<Event>,
}

/// Why a courier's connection is given up.
enum Ended {
    /// Nothing to do for a while, or the engine is gone.
    Idle,
    /// It broke, or the server does not take it now.
    Failed(LinkError),
}

impl From<LinkError> for Ended {
    fn from(error: LinkError) -> Self {
        Self::Failed(error)
    }
}

impl Courier {
    async fn run(mut self) {
        let mut backoff = Backoff::foreign(&self.dialer);
        while self.wait().await {
            let ended = self.visit(&mut backoff).await;
            self.errands.interrupted();
            let recipient = self.fingerprint();
            match ended {
                Ended::Idle => {}
                Ended::Failed(error) => {
                    self.circuit.failed(&error, Instant::now(), &mut OsRng);
                    let is_undialed = matches!(error, LinkError::Dial(_));
                    let wait = backoff.failed(&mut OsRng);
                    // No address in the log: whom one writes to stands only in `status`, which is one's own.
                    tracing::info!(wait_ms = wait.as_millis(), "a delivery connection was lost");
                    let reason = format!("{}: {error}", self.profile().server.host_port());
                    if self.tell(Event::Trouble { recipient, reason }).await.is_none() {
                        return;
                    }
                    self.wait_to_retry(wait).await;
                    // Where no connection came about the network may have been away, for others as well.
                    self.note_all();
                    self.errands.draw_anew(is_undialed, Instant::now(), &mut OsRng);
                }
            }
        }
    }

    /// Until a try may work: after `wait`, or soon after the home connection has come back.
    async fn wait_to_retry(&mut self, wait: Duration) {
        let soon = pace::delay(Duration::from_millis(RETRY_AFTER_OUTAGE_MS), &mut OsRng);
        let end = Instant::now() + wait;
        self.returned.mark_unchanged();
        tokio::select! {
            () = sleep_until(end) => {}
            Ok(()) = self.returned.changed() => sleep_until(end.min(Instant::now() + soon)).await,
        }
    }

    /// Until something is due and streams can be opened. False when the engine is gone.
    async fn wait(&mut self) -> bool {
        loop {
            if self.errands.first().is_some() && !self.dialer.is_ready() {
                self.dialer.ready().await;
                self.note_all();
                self.errands.draw_anew(true, Instant::now(), &mut OsRng);
            }
            let due = self.errands.first_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                return true;
            }
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return false,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// One connection: until it breaks, or has been idle for its time.
    async fn visit(&mut self, backoff: &mut Backoff) -> Ended {
        let room = self.room.clone();
        let retrying = if backoff.has_failed() { room.retrying.acquire().await.ok() } else { None };
        let mut connecting = room.connecting.acquire().await.ok();
        let key = SecretKey::random(&mut OsRng);
        let server = self.profile().server.clone();
        let mut link = match Link::open(&self.dialer, self.circuit.isolation(), &server, key).await {
            Ok(link) => link,
            Err(error) => return error.into(),
        };
        let mut doubtful = None;
        if backoff.has_failed() {
            // Whoever waits here holds up nobody who connects for the first time.
            connecting = None;
            doubtful = room.doubtful.acquire().await.ok();
        }
        let Ok(_standing) = room.standing.acquire().await else { return Ended::Idle };
        drop((connecting, retrying));
        loop {
            if let Err(ended) = self.work(&mut link, &server, backoff, &mut doubtful).await {
                return ended;
            }
            // Orders that are due later do not make it longer.
            let mut idle = pin!(sleep(Duration::from_millis(FOREIGN_IDLE_MS)));
            loop {
                let due = self.errands.first_due();
                if due.is_some_and(|due| due <= Instant::now()) {
                    break;
                }
                tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(order) => self.note(order),
                        None => return Ended::Idle,
                    },
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                    // It was closed: nothing was under way, and the next errand opens another.
                    _ = link.next() => return Ended::Idle,
                    () = &mut idle => return Ended::Idle,
                }
            }
        }
    }

    /// Runs all errands that are due: up to [`PIPELINE_MAX`] on their way at once, answered in order.
    /// A place among the doubtful is given up with the first answer.
    async fn work(
        &mut self,
        link: &mut Link,
        server: &ServerAddress,
        backoff: &mut Backoff,
        doubtful: &mut Option<SemaphorePermit<'_>>,
    ) -> Result<(), Ended> {
        let mut asked: VecDeque<u64> = VecDeque::new();
        loop {
            self.note_all();
            if *server != self.profile().server {
                return Err(Ended::Idle);
            }
            while let Some(errand) = self.errands.due(asked.len(), Instant::now()) {
                let alone = matches!(errand, Errand::Deliver { alone: true, .. });
                let under_way_alone = matches!(self.errands.first(), Some(Errand::Deliver { alone: true, .. }));
                if asked.len() >= PIPELINE_MAX || (!asked.is_empty() && (alone || under_way_alone)) {
                    break;
                }
                let command = command(errand, self.profile().account);
                if !self.errands.start() {
                    continue;
                }
                asked.push_back(link.send(command).await?);
            }
            let Some(id) = asked.pop_front() else { return Ok(()) };
            let outcome = link.reply(id).await?;
            let Some(errand) = self.errands.first() else { return Ok(()) };
            let event = answered(errand, self.fingerprint(), &self.profile().server, outcome)?;
            self.errands.done();
            // A refusal is no success: a server could have us come back by it at once, again and again.
            if !matches!(event, Event::NoPrekey { .. }) {
                backoff.succeeded();
                *doubtful = None;
            }
            self.tell(event).await.ok_or(Ended::Idle)?;
        }
    }

    fn note(&mut self, order: Order) {
        if order.recipient.profile().server != self.profile().server {
            // So that no exit sees somebody leave one server for another.
            self.circuit = Circuit::fresh(Instant::now(), &mut OsRng);
        }
        self.recipient = order.recipient;
        match order.errand {
            Errand::NewProfile => {}
            Errand::LetGo { places, wants_prekey } => self.errands.let_go(&places, wants_prekey),
            errand => self.errands.push(errand, order.spreads, Instant::now(), &mut OsRng),
        }
    }

    fn note_all(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.note(order);
        }
    }

    async fn tell(&self, event: Event) -> Option<()> {
        self.events.send(event).await.ok()
    }

    fn profile(&self) -> &Profile {
        self.recipient.profile()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.recipient.identity().fingerprint()
    }
}

/// What an errand asks a server.
pub(super) fn command(errand: &Errand, account: AccountId) -> Command {
    match errand {
        Errand::Deliver { envelope, .. } => Command::Deliver { account, envelope: envelope.clone() },
        Errand::TakePrekey | Errand::NewProfile | Errand::LetGo { .. } => Command::TakePrekey(account),
    }
}

/// What an answer means for the engine; an error where the errand is to be tried again later.
pub(super) fn answered(
    errand: &Errand,
    recipient: Fingerprint,
    server: &ServerAddress,
    outcome: Result<Reply, Refusal>,
) -> Result<Event, LinkError> {
    match (errand, outcome) {
        (Errand::Deliver { sequence, .. }, Ok(Reply::Done)) => Ok(Event::Accepted { recipient, sequence: *sequence }),
        (Errand::TakePrekey, Ok(Reply::Prekey(prekey))) => Ok(Event::Prekey { recipient, prekey }),
        // So that the deliveries behind it do not wait. Also "no such account": somebody who gave out a card and has not started their daemon yet has none.
        (Errand::TakePrekey, Err(refusal)) => {
            Ok(Event::NoPrekey { recipient, reason: format!("{}: {refusal}", server.host_port()) })
        }
        (Errand::Deliver { ticket, .. }, Err(refusal)) => {
            match refusal {
                // What its disk has of it may be there after a restart.
                Refusal::Unavailable => ticket.unsettled(),
                _ => ticket.refused(),
            }
            Err(refusal.into())
        }
        (_, Err(refusal)) => Err(refusal.into()),
        (_, Ok(_)) => Err(LinkError::OutOfTurn),
    }
}

#[cfg(test)]
mod tests;
