//! Puts an envelope into somebody's mailbox.

use crate::clock::Timestamp;
use crate::server::store::Store;
use crate::wire::envelope::Envelope;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// Who delivers needs no account: the key of the connection says nothing about the sender.
///
/// # Errors
/// [`Refusal::NoAccount`] (the recipient's), [`Refusal::MailboxFull`], [`Refusal::Unavailable`].
pub(super) async fn deliver(
    store: &impl Store,
    recipient: AccountId,
    envelope: Envelope,
    now: Timestamp,
) -> Result<Reply, Refusal> {
    store.deliver(recipient, envelope, now).await.map(|()| Reply::Done)
}
