//! Takes one of somebody's prekeys.

use crate::clock::Timestamp;
use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// When this answers, no crash hands the same one-time prekey to anybody else.
///
/// # Errors
/// [`Refusal::NoAccount`] (the owner's), [`Refusal::NoPrekey`], [`Refusal::Unavailable`].
pub(super) async fn take_prekey(store: &impl Store, owner: AccountId, now: Timestamp) -> Result<Reply, Refusal> {
    store.take_prekey(owner, now).await.map(Reply::Prekey)
}
