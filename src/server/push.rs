//! The push of one subscription: the backlog first, then what arrives (design, section 7).
//!
//! It holds a page of a few envelopes at a time and waits wherever the connection's writer does, so that a slow reader
//! costs no memory; and it reads from its own cursor whatever hints came, so that none can be missed.

use std::convert::Infallible;
use std::ops::Deref;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::clock::Timestamp;
use crate::limits::{PREKEYS_REFILL_BELOW, PUSH_PAGE_MAX};
use crate::server::store::Store;
use crate::server::store::watch::{Hint, Subscription};
use crate::wire::identity::AccountId;
use crate::wire::reply::{PrekeyCount, Push, Refusal, ServerMessage};

/// One subscription's push.
pub(super) struct Pusher<S> {
    pub(super) store: S,
    pub(super) account: AccountId,
    /// Everything up to this id was pushed, or need not be.
    pub(super) after: u64,
    pub(super) subscription: Subscription,
    pub(super) frames: mpsc::Sender<ServerMessage>,
}

/// Why a push ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The writer is gone, and with it the connection.
    Closed,
    /// The account was deleted; the connection may go on.
    NoAccount,
    /// The disk cannot be read. The connection is to be closed, so that the client hears of it and comes back, instead
    /// of waiting for a push that stopped.
    Unavailable,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        if refusal == Refusal::NoAccount { Self::NoAccount } else { Self::Unavailable }
    }
}

impl<S: Deref<Target: Store>> Pusher<S> {
    /// Pushes until there is a reason to end.
    pub(super) async fn run(mut self) -> End {
        let Err(end) = self.push().await;
        end
    }

    async fn push(&mut self) -> Result<Infallible, End> {
        let mut drained = false;
        let mut told = None;
        loop {
            // Hints are looked at between pages too, so that a long backlog does not keep the owner from hearing that
            // its prekeys run low.
            let hint = self.subscription.hint();
            match if drained { Some(hint.await) } else { hint.now_or_never() } {
                Some(Hint::Ended) => return Err(End::NoAccount),
                Some(Hint::Prekeys) => self.tell_prekeys(&mut told).await?,
                Some(Hint::Mailbox) | None => {}
            }
            let page = self.store.page(self.account, self.after, PUSH_PAGE_MAX).await?;
            drained = page.is_empty();
            for stored in page {
                self.after = stored.id;
                self.send(Push::Envelope(stored)).await?;
            }
        }
    }

    /// Tells the owner what is left, if it is little and not what was `told` before: somebody who takes the last-resort
    /// prekey over and over must not make us push over and over.
    async fn tell_prekeys(&mut self, told: &mut Option<PrekeyCount>) -> Result<(), End> {
        let count = self.store.count_prekeys(self.account, Timestamp::now()).await?;
        let low = usize::try_from(count.one_time).is_ok_and(|left| left < PREKEYS_REFILL_BELOW);
        if low && *told != Some(count) {
            self.send(Push::Prekeys(count)).await?;
        }
        *told = low.then_some(count);
        Ok(())
    }

    async fn send(&self, push: Push) -> Result<(), End> {
        self.frames.send(ServerMessage::Push(push)).await.map_err(|_| End::Closed)
    }
}
