//! Adds to the connection's own prekeys, or replaces them.

use crate::clock::Timestamp;
use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::{Refusal, Reply};

/// Signatures are for who takes a prekey to check: the server does not know the account's identity.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::PrekeysFull`], [`Refusal::Unavailable`].
pub(super) async fn upload_prekeys(
    store: &impl Store,
    own: AccountId,
    prekeys: Vec<SignedPrekey>,
    replace: bool,
    now: Timestamp,
) -> Result<Reply, Refusal> {
    store.add_prekeys(own, prekeys, replace, now).await.map(|()| Reply::Done)
}
