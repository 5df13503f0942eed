//! Deletes envelopes of the connection's own mailbox.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// Ids that are not there are fine: a client whose answer was lost asks again.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn delete_envelopes(store: &impl Store, own: AccountId, ids: Vec<u64>) -> Result<Reply, Refusal> {
    store.delete_envelopes(own, ids).await.map(|()| Reply::Done)
}
