//! Fetches one envelope of the connection's own mailbox.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// It stays in the mailbox until it is deleted.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::NoEnvelope`], [`Refusal::Unavailable`].
pub(super) async fn fetch_envelope(store: &impl Store, own: AccountId, id: u64) -> Result<Reply, Refusal> {
    store.fetch(own, id).await.map(Reply::Envelope)
}
