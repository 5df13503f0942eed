//! Reads the connection's own sealed counter record.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// None before the first write.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn read_counter(store: &impl Store, own: AccountId) -> Result<Reply, Refusal> {
    store.read_counter(own).await.map(Reply::Counter)
}
