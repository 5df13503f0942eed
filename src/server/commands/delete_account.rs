//! Removes the connection's account with all it has.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// The connection stays; what it subscribed to ends.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn delete_account(store: &impl Store, own: AccountId) -> Result<Reply, Refusal> {
    store.delete_account(own).await.map(|()| Reply::Done)
}
