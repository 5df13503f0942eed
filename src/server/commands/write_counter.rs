//! Writes the connection's own sealed counter record.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// The record's size was checked when the request was parsed; its content means nothing to the server.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn write_counter(store: &impl Store, own: AccountId, record: Vec<u8>) -> Result<Reply, Refusal> {
    store.write_counter(own, record).await.map(|()| Reply::Done)
}
