//! Sending by a schedule: in each slot one visit to a server, for whatever waits, and for nothing where nothing does. Slots
//! come at random intervals that do not depend on what there is to send, so neither does what leaves this machine.
//!
//! A visit is the same for both in connections and bytes: a fresh connection under fresh keys on a circuit of its own, one
//! request, its reply, the end. All frames have one size. Cover is a ping to our own home server under a key that it does
//! not know.

use std::sync::Arc;
use std::time::Duration;

use rand_core::OsRng;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::courier::{answered, command};
use super::event::{Errand, Event, Order};
use super::line::{Line, Turn};
use super::link::{Link, LinkError};
use super::pace;
use crate::crypto::dh::SecretKey;
use crate::limits::{COURIERS_MAX, VISIT_TIMEOUT_MS};
use crate::net::dialer::Dialer;
use crate::net::isolation::Isolation;
use crate::wire::address::ServerAddress;
use crate::wire::identity::Fingerprint;
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::Command;

/// How the visit for a recipient ended: done, or what is to be tried again.
type Ended = (Fingerprint, Result<(), Errand>);

/// Works by slots whose intervals have this mean, until the engine is gone. A slot that is missed, while Tor is not ready or
/// the machine sleeps, is lost: nothing catches up.
pub async fn run(
    mean: Duration,
    dialer: Dialer,
    home: ServerAddress,
    events: mpsc::Sender<Event>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut pacer = Pacer {
        line: Line::new(Backoff::foreign(&dialer)),
        visits: Arc::new(Semaphore::new(COURIERS_MAX)),
        visitor: Visitor { dialer, home, events, ended },
    };
    let mut next = Instant::now() + pace::interval(mean, &mut OsRng);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => pacer.line.push(order),
                None => return,
            },
            Some(end) = ends.recv() => pacer.note(end),
            () = sleep_until(next) => {
                next = Instant::now() + pace::interval(mean, &mut OsRng);
                if pacer.visitor.dialer.is_ready() {
                    pacer.slot();
                }
            }
        }
    }
}

struct Pacer {
    line: Line,
    /// Bounds the visits at one time.
    visits: Arc<Semaphore>,
    visitor: Visitor,
}

/// What a visit needs.
#[derive(Clone)]
struct Visitor {
    dialer: Dialer,
    home: ServerAddress,
    events: mpsc::Sender<Event>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Pacer {
    /// One slot: one visit. It takes as long as it takes, and the next slot does not wait for it.
    fn slot(&mut self) {
        // So many that hang have a network that is down: the slot is lost, whatever it was for.
        let Ok(permit) = self.visits.clone().try_acquire_owned() else { return };
        let turn = self.line.next(Instant::now());
        let visitor = self.visitor.clone();
        tokio::spawn(async move {
            match turn {
                Some(turn) => visitor.carry_out(turn).await,
                None => visitor.cover().await,
            }
            drop(permit);
        });
    }

    fn note(&mut self, (recipient, result): Ended) {
        match result {
            Ok(()) => self.line.done(&recipient),
            Err(errand) => self.line.failed(&recipient, errand, Instant::now(), &mut OsRng),
        }
    }
}

impl Visitor {
    async fn carry_out(self, Turn { recipient, errand }: Turn) {
        let fingerprint = recipient.identity().fingerprint();
        let profile = recipient.profile();
        let mut is_taken_back = false;
        let command = || {
            is_taken_back = !errand.claim();
            // A visit that has begun has its request, whatever becomes of what it was for.
            if is_taken_back { Command::Ping } else { command(&errand, profile.account) }
        };
        let outcome = self.visit(&profile.server, command).await;
        if is_taken_back {
            let _ = self.ended.send((fingerprint, Ok(())));
            return;
        }
        let event = outcome.and_then(|outcome| answered(&errand, fingerprint, &profile.server, outcome));
        let (event, result) = match event {
            Ok(event) => (event, Ok(())),
            Err(error) => {
                // No address in the log: whom one writes to stands only in `status`, which is one's own.
                tracing::info!("a delivery failed; it is tried again in a later slot");
                let reason = format!("{}: {error}", profile.server.host_port());
                (Event::Trouble { recipient: fingerprint, reason }, Err(errand))
            }
        };
        // Both fail only when the engine is gone. The engine is told first: it may have to be waited for, and the next of
        // this recipient must not be ahead of it.
        let _ = self.events.send(event).await;
        let _ = self.ended.send((fingerprint, result));
    }

    async fn cover(self) {
        if self.visit(&self.home, || Command::Ping).await.is_err() {
            tracing::debug!("a visit for cover failed");
        }
    }

    /// One request on a connection that nothing ties to any other, and which one is asked for when that stands.
    async fn visit(
        &self,
        server: &ServerAddress,
        command: impl FnOnce() -> Command,
    ) -> Result<Result<Reply, Refusal>, LinkError> {
        let isolation = Isolation::fresh(&mut OsRng);
        let visiting = async {
            let mut link = Link::open(&self.dialer, &isolation, server, SecretKey::random(&mut OsRng)).await?;
            let id = link.send(command()).await?;
            link.reply(id).await
        };
        timeout(Duration::from_millis(VISIT_TIMEOUT_MS), visiting).await.unwrap_or(Err(LinkError::Silent))
    }
}

#[cfg(test)]
mod tests;
