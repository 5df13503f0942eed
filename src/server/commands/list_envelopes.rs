//! Lists a page of the connection's own mailbox.

use crate::server::store::Store;
use crate::wire::identity::AccountId;
use crate::wire::reply::{Refusal, Reply};

/// A page fits its frame; `more` says that there is another.
///
/// # Errors
/// [`Refusal::NoAccount`], [`Refusal::Unavailable`].
pub(super) async fn list_envelopes(
    store: &impl Store,
    own: AccountId,
    after: u64,
    limit: usize,
) -> Result<Reply, Refusal> {
    let (entries, more) = store.list(own, after, limit).await?;
    Ok(Reply::Envelopes { entries, more })
}
