//! The home connection: one, long-lived, with push (design, section 6). It comes back by itself.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::OsRng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::circuit::Circuit;
use super::event::{Event, HomeOrder};
use super::home_queue::{Asked, HomeQueue, Next};
use super::link::{Link, LinkError};
use super::pace;
use crate::crypto::dh::SecretKey;
use crate::limits::{
    HOME_SLOT_GAP_MAX_MS, HOME_STANDING_MS, PING_INTERVAL_MS, PREKEY_COUNT_INTERVAL_MS, REPLY_TIMEOUT_MS, SLOT_LATE_MS,
};
use crate::net::dialer::Dialer;
use crate::wire::address::ServerAddress;
use crate::wire::reply::{Push, Refusal, Reply, ServerMessage};
use crate::wire::request::Command;

/// Where home is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Home {
    /// Our server.
    pub server: ServerAddress,
    /// The account's transport key.
    pub key: SecretKey,
    /// How streams are opened.
    pub dialer: Dialer,
    /// The mean between two slots where a schedule is set: then a request leaves in each, and in no other moment.
    pub mean: Option<Duration>,
}

/// Keeps the connection until the engine is gone. `returned` counts how often it has come back.
pub async fn run(
    home: Home,
    events: mpsc::Sender<Event>,
    mut orders: mpsc::UnboundedReceiver<HomeOrder>,
    returned: watch::Sender<u64>,
) {
    let mut backoff = Backoff::default();
    let mut circuit = Circuit::fresh(Instant::now(), &mut OsRng);
    while !events.is_closed() {
        if !home.dialer.is_ready() {
            let reason = format!("not connected to {}: waiting for Tor", home.server.host_port());
            if events.send(Event::Disconnected(reason)).await.is_err() {
                return;
            }
            home.dialer.ready().await;
        }
        let ended = match Link::open(&home.dialer, circuit.isolation(), &home.server, home.key.clone()).await {
            Ok(link) => {
                let (asked, queue) = (VecDeque::new(), HomeQueue::default());
                let mut stands = None;
                let connection = Connection { link, asked, queue, mean: home.mean };
                let ended = connection.serve(&events, &mut orders, &mut stands, &returned).await;
                // Through Tor each try may be a circuit, so one that ends at once is no success.
                let needed_ms = if home.dialer.builds_circuits() { HOME_STANDING_MS } else { 0 };
                if stands.is_some_and(|since: Instant| since.elapsed() >= Duration::from_millis(needed_ms)) {
                    backoff.succeeded();
                }
                ended
            }
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return };
        circuit.failed(&error, Instant::now(), &mut OsRng);
        // Orders of the old connection are void: on the next one the engine hears the count of prekeys anew, and what
        // was not deleted is pushed again, known by its hash and deleted then.
        while orders.try_recv().is_ok() {}
        let wait = backoff.failed(&mut OsRng);
        tracing::info!(%error, wait_ms = wait.as_millis(), "no home connection; it is tried again");
        let impostor = if error.is_impostor() { " (check the server's address in your profile)" } else { "" };
        let reason = format!("not connected to {}: {error}{impostor}", home.server.host_port());
        if events.send(Event::Disconnected(reason)).await.is_err() {
            return;
        }
        sleep(wait).await;
    }
}

struct Connection {
    link: Link,
    /// Requests without a reply yet, in order, with the time by which it must have come.
    asked: VecDeque<(u64, Asked, Instant)>,
    /// What is to be asked in the slots to come; empty between two events where there is no schedule.
    queue: HomeQueue,
    mean: Option<Duration>,
}

impl Connection {
    /// Until the connection or the engine ends. `Ok` means the latter. `stands` gets the time since when it does.
    async fn serve(
        mut self,
        events: &mpsc::Sender<Event>,
        orders: &mut mpsc::UnboundedReceiver<HomeOrder>,
        stands: &mut Option<Instant>,
        returned: &watch::Sender<u64>,
    ) -> Result<(), LinkError> {
        self.ask(Asked::Account, Command::CreateAccount).await?;
        // Before all else: whether our own state is the newest decides what the rest means.
        self.ask(Asked::Counter, Command::ReadCounter).await?;
        self.ask(Asked::Count, Command::CountPrekeys).await?;
        self.ask(Asked::Subscription, Command::Subscribe { after: 0 }).await?;
        let (mut turn_at, mut count_at) = (self.turn_time(), Self::count_time());
        loop {
            let reply_by = self.asked.front().map(|(_, _, by)| *by);
            tokio::select! {
                message = self.link.next() => {
                    let Some(event) = self.handle(message?)? else { continue };
                    if matches!(event, Event::Connected) {
                        *stands = Some(Instant::now());
                        tracing::info!("the home connection stands");
                        returned.send_modify(|count| *count += 1);
                    }
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => {
                        self.queue.push(order);
                        while self.mean.is_none() && let Some(next) = self.queue.pop() {
                            self.carry_out(next).await?;
                        }
                    }
                    None => return Ok(()),
                },
                () = sleep_until(turn_at) => {
                    // Late where the engine or the machine stood still: a slot that was missed is lost.
                    let is_missed = self.mean.is_some() && turn_at.elapsed() > Duration::from_millis(SLOT_LATE_MS);
                    turn_at = self.turn_time();
                    if is_missed {
                        continue;
                    }
                    match self.queue.pop() {
                        Some(next) => self.carry_out(next).await?,
                        // Now and then a count in place of a ping: prekeys expire on a connection that stands for weeks.
                        None if Instant::now() >= count_at => {
                            self.ask(Asked::Count, Command::CountPrekeys).await?;
                            count_at = Self::count_time();
                        }
                        None => self.ask(Asked::Ping, Command::Ping).await?,
                    }
                }
                () = sleep_until(reply_by.unwrap_or(turn_at)), if reply_by.is_some() => return Err(LinkError::Silent),
            }
        }
    }

    /// When the next request is due that nothing asks for, or the next slot.
    fn turn_time(&self) -> Instant {
        let wait = match self.mean {
            None => Duration::from_millis(PING_INTERVAL_MS),
            Some(mean) => pace::interval(mean, &mut OsRng).min(Duration::from_millis(HOME_SLOT_GAP_MAX_MS)),
        };
        Instant::now() + wait
    }

    fn count_time() -> Instant {
        Instant::now() + Duration::from_millis(PREKEY_COUNT_INTERVAL_MS)
    }

    async fn ask(&mut self, asked: Asked, command: Command) -> Result<(), LinkError> {
        let id = self.link.send(command).await?;
        self.asked.push_back((id, asked, Instant::now() + Duration::from_millis(REPLY_TIMEOUT_MS)));
        Ok(())
    }

    async fn carry_out(&mut self, next: Next) -> Result<(), LinkError> {
        match next {
            Next::Ask(asked, command) => self.ask(asked, command).await,
            Next::Reconnect => Err(LinkError::Silent),
        }
    }

    /// What a message means for the engine, if it means anything.
    fn handle(&mut self, message: ServerMessage) -> Result<Option<Event>, LinkError> {
        let event = match message {
            ServerMessage::Push(Push::Envelope(stored)) => Event::Envelope(stored),
            ServerMessage::Push(Push::Prekeys(count)) => Event::Prekeys { count, after_upload: false },
            ServerMessage::Reply { id, outcome } => {
                let (expected, asked, _) = self.asked.pop_front().ok_or(LinkError::OutOfTurn)?;
                if id != expected {
                    return Err(LinkError::OutOfTurn);
                }
                match (asked, outcome) {
                    (
                        Asked::Account
                        | Asked::Counter
                        | Asked::CounterWrite(_)
                        | Asked::Subscription
                        | Asked::Replacement
                        | Asked::Count
                        | Asked::CountAfterUpload
                        | Asked::CountNow,
                        Err(refusal),
                    ) => return Err(refusal.into()),
                    (Asked::Counter, Ok(Reply::Counter(record))) => Event::Counter(record),
                    (Asked::CounterWrite(number), Ok(Reply::Done)) => Event::CounterWritten(number),
                    (Asked::Subscription, Ok(Reply::Done)) => Event::Connected,
                    (Asked::Count, Ok(Reply::PrekeyCount(count))) => Event::Prekeys { count, after_upload: false },
                    (Asked::CountAfterUpload, Ok(Reply::PrekeyCount(count))) => {
                        Event::Prekeys { count, after_upload: true }
                    }
                    (Asked::CountNow, Ok(Reply::PrekeyCount(count))) => Event::PrekeysCounted(count),
                    (Asked::Upload, Err(Refusal::PrekeysFull)) => return Ok(None),
                    (_, Err(refusal)) => {
                        tracing::warn!(%refusal, ?asked, "our server refused a request");
                        return Ok(None);
                    }
                    (
                        Asked::Account | Asked::Deletion | Asked::Upload | Asked::Replacement | Asked::Ping,
                        Ok(Reply::Done),
                    ) => return Ok(None),
                    // What was not asked for is no answer, whatever it is.
                    (_, Ok(_)) => return Err(LinkError::OutOfTurn),
                }
            }
        };
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::super::recorder::Recorder;
    use super::*;

    struct Bench {
        home: Home,
        orders: mpsc::UnboundedSender<HomeOrder>,
        queue: UnboundedReceiver<HomeOrder>,
        server: Recorder,
    }

    async fn bench(mean: Option<Duration>) -> Bench {
        let server = Recorder::start(0).await;
        let key = SecretKey::random(&mut OsRng);
        let home = Home { server: server.address.clone(), key, dialer: Dialer::Direct, mean };
        let (orders, queue) = mpsc::unbounded_channel();
        Bench { home, orders, queue, server }
    }

    /// What is asked behind the beginning of a connection where there is this to do, and the engine goes then.
    async fn asked_at_once(mean: Option<Duration>) -> Vec<Command> {
        let Bench { home, orders, queue, mut server } = bench(mean).await;
        orders.send(HomeOrder::Delete(vec![7])).unwrap();
        drop(orders);
        let (events, _heard) = mpsc::channel(64);
        run(home, events, queue, watch::channel(0).0).await;
        let (_, mut asked) = server.connections.recv().await.unwrap();
        let begins = [Command::CreateAccount, Command::ReadCounter, Command::CountPrekeys];
        assert_eq!(asked.drain(..4).take(3).collect::<Vec<_>>(), begins);
        asked
    }

    #[tokio::test]
    async fn with_a_schedule_what_there_is_to_do_waits_for_a_slot() {
        assert_eq!(asked_at_once(None).await, [Command::DeleteEnvelopes(vec![7])]);
        assert_eq!(asked_at_once(Some(Duration::from_secs(3_600))).await, []);
    }

    #[tokio::test]
    async fn a_slot_is_for_what_waits_longest_and_for_a_ping_where_nothing_does() {
        let Bench { home, orders, queue, mut server } = bench(Some(Duration::from_millis(1))).await;
        let (events, mut heard) = mpsc::channel(64);
        let running = tokio::spawn(run(home, events, queue, watch::channel(0).0));
        let draining = tokio::spawn(async move { while heard.recv().await.is_some() {} });
        for _ in 0..4 {
            server.requests.recv().await.unwrap();
        }
        let mut next = async || server.requests.recv().await.unwrap();
        assert_eq!(next().await, Command::Ping);
        assert_eq!(next().await, Command::Ping);
        orders.send(HomeOrder::Count).unwrap();
        orders.send(HomeOrder::Delete(vec![7])).unwrap();
        let mut done = Vec::new();
        while done.len() < 2 {
            match next().await {
                Command::Ping => {}
                other => done.push(other),
            }
        }
        assert_eq!(done, [Command::CountPrekeys, Command::DeleteEnvelopes(vec![7])]);
        assert_eq!(next().await, Command::Ping);
        drop(orders);
        running.await.unwrap();
        draining.await.unwrap();
    }
}
