//! The requests of one connection after its handshake, answered in their order.
//!
//! Several may be under way, so that a client which delivers in a row shares disk syncs. What it sees is as if each had
//! waited for the one before: only requests of one kind run together, and writes enter the store's queue in the order
//! in which they arrived.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::{Either, Ready, ready};
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::commands::{self, Kind};
use super::push::{End, Pusher};
use super::store::Store;
use crate::clock::Timestamp;
use crate::limits::PIPELINE_MAX;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply, ServerMessage};
use crate::wire::request::Command;

/// A request as it came off the wire, or what is to be answered to one that could not be read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: u64,
    pub(super) command: Result<Command, Refusal>,
}

/// One connection's state.
pub(super) struct Session<S> {
    store: Arc<S>,
    account: AccountId,
    frames: mpsc::Sender<ServerMessage>,
    under_way: FuturesOrdered<Answer>,
    /// Of those under way.
    kind: Kind,
    push: Option<Boxed<End>>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Ready where the first poll was enough.
type Answer = Either<Ready<ServerMessage>, Boxed<ServerMessage>>;

/// The connection is to end.
struct Closed;

impl<S: Store> Session<S> {
    /// `frames` leads to the connection's writer.
    pub(super) fn new(store: Arc<S>, account: AccountId, frames: mpsc::Sender<ServerMessage>) -> Self {
        Self { store, account, frames, under_way: FuturesOrdered::new(), kind: Kind::Read, push: None }
    }

    /// Answers until `requests` ends and everything is answered, or the writer is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Incoming>) {
        let mut next = None;
        let mut open = true;
        while open || next.is_some() || !self.under_way.is_empty() {
            if let Some(incoming) = next.take_if(|next| self.may_start(next)) {
                if self.start(incoming).await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                Some(answer) = self.under_way.next() => {
                    if self.frames.send(answer).await.is_err() {
                        return;
                    }
                }
                incoming = requests.recv(), if open && next.is_none() => {
                    open = incoming.is_some();
                    next = incoming;
                }
                end = ended(&mut self.push) => {
                    self.push = None;
                    if end != End::NoAccount {
                        return;
                    }
                }
            }
        }
    }

    fn may_start(&self, incoming: &Incoming) -> bool {
        let kind = incoming.command.as_ref().map_or(self.kind, commands::kind);
        let together = kind == self.kind && kind != Kind::Subscribe && self.under_way.len() < PIPELINE_MAX;
        together || self.under_way.is_empty()
    }

    async fn start(&mut self, incoming: Incoming) -> Result<(), Closed> {
        let Incoming { id, command } = incoming;
        let command = match command {
            Ok(Command::Subscribe { after }) => return self.subscribe(id, after).await,
            Ok(command) => command,
            Err(refusal) => {
                self.under_way.push_back(Either::Left(ready(ServerMessage::Reply { id, outcome: Err(refusal) })));
                return Ok(());
            }
        };
        self.kind = commands::kind(&command);
        let (store, account) = (Arc::clone(&self.store), self.account);
        let mut answer: Boxed<ServerMessage> = Box::pin(async move {
            let outcome = commands::execute(&*store, account, command, Timestamp::now()).await;
            ServerMessage::Reply { id, outcome }
        });
        // The first poll puts a write into the store's queue. Made here and one after the other, because nothing else
        // promises in which order a collection of futures polls them; without a budget, because a poll that the runtime
        // cuts short would leave the write outside the queue.
        let first = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Pin::new(&mut tokio::task::unconstrained(&mut answer)).poll(context))
        });
        self.under_way.push_back(match first.await {
            std::task::Poll::Ready(answer) => Either::Left(ready(answer)),
            std::task::Poll::Pending => Either::Right(answer),
        });
        Ok(())
    }

    /// Answers, and pushes from then on. A second subscription replaces the first.
    async fn subscribe(&mut self, id: u64, after: u64) -> Result<(), Closed> {
        let subscribed = commands::subscribe(&*self.store, self.account).await;
        let outcome = subscribed.as_ref().map(|_| Reply::Done).map_err(|refusal| *refusal);
        if subscribed.is_ok() {
            // Before the answer: what is pushed after it belongs to the new subscription.
            self.push = None;
        }
        self.frames.send(ServerMessage::Reply { id, outcome }).await.map_err(|_| Closed)?;
        if let Ok(subscription) = subscribed {
            let (store, frames) = (Arc::clone(&self.store), self.frames.clone());
            let pusher = Pusher { store, account: self.account, after, subscription, frames };
            self.push = Some(Box::pin(pusher.run()));
        }
        Ok(())
    }
}

/// The end of a push, if there is one; otherwise never.
async fn ended(push: &mut Option<Boxed<End>>) -> End {
    match push {
        Some(push) => push.await,
        None => std::future::pending().await,
    }
}
