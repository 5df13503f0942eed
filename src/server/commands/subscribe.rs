//! Subscribes to the connection's own mailbox.

use crate::server::store::Store;
use crate::server::store::watch::Subscription;
use crate::wire::identity::AccountId;
use crate::wire::reply::Refusal;

/// Watches first and looks then, so that nothing falls between; the push reads from the client's cursor afterwards.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub async fn subscribe(store: &impl Store, own: AccountId) -> Result<Subscription, Refusal> {
    let subscription = store.watch(own);
    store.require_account(own).await?;
    Ok(subscription)
}
