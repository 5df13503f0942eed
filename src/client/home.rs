//! The home connection: one, long-lived, with push (design, section 6). It comes back by itself.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::OsRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::event::{Event, HomeOrder};
use super::link::{Link, LinkError};
use crate::crypto::dh::SecretKey;
use crate::limits::{
    DELETE_IDS_MAX, FRAME_BODY_BYTES_MAX, PING_INTERVAL_MS, PREKEY_COUNT_INTERVAL_MS, REPLY_TIMEOUT_MS,
};
use crate::net::dialer::Dialer;
use crate::net::isolation::Isolation;
use crate::wire::address::ServerAddress;
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::{Push, Refusal, Reply, ServerMessage};
use crate::wire::request::Command;

/// Room for the fields around the prekeys of one upload.
const UPLOAD_OVERHEAD_BYTES: usize = 64;

/// Where home is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Home {
    /// Our server.
    pub server: ServerAddress,
    /// The account's transport key.
    pub key: SecretKey,
    /// How streams are opened.
    pub dialer: Dialer,
}

/// What a request was, for when its reply comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Account,
    Counter,
    CounterWrite(u64),
    Count,
    CountAfterUpload,
    CountNow,
    Subscription,
    Deletion,
    Upload,
    Replacement,
    Ping,
}

/// Keeps the connection until the engine is gone.
pub async fn run(home: Home, events: mpsc::Sender<Event>, mut orders: mpsc::UnboundedReceiver<HomeOrder>) {
    let mut backoff = Backoff::default();
    let mut isolation = Isolation::fresh(&mut OsRng);
    while !events.is_closed() {
        if !home.dialer.is_ready() {
            let reason = format!("not connected to {}: waiting for Tor", home.server.host_port());
            if events.send(Event::Disconnected(reason)).await.is_err() {
                return;
            }
            home.dialer.ready().await;
        }
        let ended = match Link::open(&home.dialer, &isolation, &home.server, home.key.clone()).await {
            Ok(link) => Connection { link, asked: VecDeque::new() }.serve(&events, &mut orders, &mut backoff).await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return };
        // It may have been the circuit's fault.
        isolation = Isolation::fresh(&mut OsRng);
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
}

impl Connection {
    /// Until the connection or the engine ends. `Ok` means the latter.
    async fn serve(
        mut self,
        events: &mpsc::Sender<Event>,
        orders: &mut mpsc::UnboundedReceiver<HomeOrder>,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        self.ask(Asked::Account, Command::CreateAccount).await?;
        // Before all else: whether our own state is the newest decides what the rest means.
        self.ask(Asked::Counter, Command::ReadCounter).await?;
        self.ask(Asked::Count, Command::CountPrekeys).await?;
        self.ask(Asked::Subscription, Command::Subscribe { after: 0 }).await?;
        let (mut ping_at, mut count_at) = (Self::ping_time(), Self::count_time());
        loop {
            let reply_by = self.asked.front().map(|(_, _, by)| *by);
            tokio::select! {
                message = self.link.next() => {
                    let Ok(()) = self.handle(message?, events, backoff).await? else { return Ok(()) };
                }
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await?,
                    None => return Ok(()),
                },
                () = sleep_until(ping_at) => {
                    // Now and then a count in place of a ping: prekeys expire on a connection that stands for weeks.
                    match Instant::now() < count_at {
                        true => self.ask(Asked::Ping, Command::Ping).await?,
                        false => {
                            self.ask(Asked::Count, Command::CountPrekeys).await?;
                            count_at = Self::count_time();
                        }
                    }
                    ping_at = Self::ping_time();
                }
                () = sleep_until(reply_by.unwrap_or(ping_at)), if reply_by.is_some() => return Err(LinkError::Silent),
            }
        }
    }

    fn ping_time() -> Instant {
        Instant::now() + Duration::from_millis(PING_INTERVAL_MS)
    }

    fn count_time() -> Instant {
        Instant::now() + Duration::from_millis(PREKEY_COUNT_INTERVAL_MS)
    }

    async fn ask(&mut self, asked: Asked, command: Command) -> Result<(), LinkError> {
        let id = self.link.send(command).await?;
        self.asked.push_back((id, asked, Instant::now() + Duration::from_millis(REPLY_TIMEOUT_MS)));
        Ok(())
    }

    async fn carry_out(&mut self, order: HomeOrder) -> Result<(), LinkError> {
        match order {
            HomeOrder::Delete(ids) => {
                for ids in ids.chunks(DELETE_IDS_MAX) {
                    self.ask(Asked::Deletion, Command::DeleteEnvelopes(ids.to_vec())).await?;
                }
            }
            HomeOrder::Upload { prekeys, replaces } => {
                for (place, prekeys) in uploads(prekeys).into_iter().enumerate() {
                    let asked = if replaces { Asked::Replacement } else { Asked::Upload };
                    self.ask(asked, Command::UploadPrekeys { prekeys, replace: replaces && place == 0 }).await?;
                }
                self.ask(Asked::CountAfterUpload, Command::CountPrekeys).await?;
            }
            HomeOrder::WriteCounter(number, record) => {
                self.ask(Asked::CounterWrite(number), Command::WriteCounter(record)).await?;
            }
            HomeOrder::Count => self.ask(Asked::CountNow, Command::CountPrekeys).await?,
            HomeOrder::Reconnect => return Err(LinkError::Silent),
        }
        Ok(())
    }

    /// The inner result is an error when the engine is gone.
    async fn handle(
        &mut self,
        message: ServerMessage,
        events: &mpsc::Sender<Event>,
        backoff: &mut Backoff,
    ) -> Result<Result<(), mpsc::error::SendError<Event>>, LinkError> {
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
                    (Asked::Subscription, Ok(Reply::Done)) => {
                        backoff.succeeded();
                        Event::Connected
                    }
                    (Asked::Count, Ok(Reply::PrekeyCount(count))) => Event::Prekeys { count, after_upload: false },
                    (Asked::CountAfterUpload, Ok(Reply::PrekeyCount(count))) => {
                        Event::Prekeys { count, after_upload: true }
                    }
                    (Asked::CountNow, Ok(Reply::PrekeyCount(count))) => Event::PrekeysCounted(count),
                    (Asked::Upload, Err(Refusal::PrekeysFull)) => return Ok(Ok(())),
                    (_, Err(refusal)) => {
                        tracing::warn!(%refusal, ?asked, "our server refused a request");
                        return Ok(Ok(()));
                    }
                    (
                        Asked::Account | Asked::Deletion | Asked::Upload | Asked::Replacement | Asked::Ping,
                        Ok(Reply::Done),
                    ) => return Ok(Ok(())),
                    // What was not asked for is no answer, whatever it is.
                    (_, Ok(_)) => return Err(LinkError::OutOfTurn),
                }
            }
        };
        Ok(events.send(event).await)
    }
}

/// Prekeys in portions that fit a frame each.
fn uploads(prekeys: Vec<SignedPrekey>) -> Vec<Vec<SignedPrekey>> {
    let mut portions = vec![Vec::new()];
    let mut room = FRAME_BODY_BYTES_MAX - UPLOAD_OVERHEAD_BYTES;
    for prekey in prekeys {
        // The field's tag and length take 3 bytes at these sizes; 8 leave room.
        let size = prekey.to_bytes().len() + 8;
        if size > room {
            portions.push(Vec::new());
            room = FRAME_BODY_BYTES_MAX - UPLOAD_OVERHEAD_BYTES;
        }
        room -= size;
        if let Some(last) = portions.last_mut() {
            last.push(prekey);
        }
    }
    portions
}
