//! Counts the connection's own prekeys.

use crate::clock::Timestamp;
use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// Expired ones do not count.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn count_prekeys(store: &impl Store, own: AccountId, now: Timestamp) -> Result<Reply, Refusal> {
    store.count_prekeys(own, now).await.map(Reply::PrekeyCount)
}
