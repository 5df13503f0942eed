//! Makes an account for the connection's key.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// Fine if there is one, so that a client whose answer was lost may ask again.
///
/// # Errors
/// [`Refusal::ServerFull`], [`Refusal::Unavailable`].
pub(super) async fn create_account(store: &impl Store, own: AccountId) -> Result<Reply, Refusal> {
    store.create_account(own).await.map(|()| Reply::Done)
}
