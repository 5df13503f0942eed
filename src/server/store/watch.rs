//! Watching a mailbox: empty hints, never data (design, section 7).
//!
//! A watcher registers first and reads from its cursor then, so that whatever becomes durable in between is either
//! read or hinted at. Hints run together: a watcher that is busy finds one, however many there were, which is why
//! nothing here grows with the traffic or waits for a reader.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::wire::identity::AccountId;

/// Why it is worth looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The mailbox has something new.
    Mailbox,
    /// A prekey was taken, and few are left.
    Prekeys,
    /// The account was deleted; nothing more will come.
    Ended,
}

/// How often each hint was given.
#[derive(Clone, Copy, Debug, Default)]
struct Hints {
    mailbox: u64,
    prekeys: u64,
    ended: bool,
}

/// Everybody who watches, by account. One of these stands in each store.
#[derive(Debug, Default)]
pub struct Watchers {
    by_account: Mutex<HashMap<AccountId, watch::Sender<Hints>>>,
}

/// One watch. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    account: AccountId,
    watchers: Arc<Watchers>,
    seen: Hints,
    /// `None` only while dropping.
    hints: Option<watch::Receiver<Hints>>,
}

impl Watchers {
    /// Registers a watch; hints given from now on reach it.
    pub fn register(self: &Arc<Self>, account: AccountId) -> Subscription {
        let mut by_account = self.lock();
        let hints = by_account.entry(account).or_insert_with(|| watch::Sender::new(Hints::default())).subscribe();
        let seen = *hints.borrow();
        Subscription { account, watchers: Arc::clone(self), seen, hints: Some(hints) }
    }

    /// Wakes all who watch `account`. Never waits.
    pub fn hint(&self, account: &AccountId, hint: Hint) {
        let mut by_account = self.lock();
        let Some(sender) = by_account.get(account) else { return };
        sender.send_modify(|hints| match hint {
            Hint::Mailbox => hints.mailbox += 1,
            Hint::Prekeys => hints.prekeys += 1,
            Hint::Ended => hints.ended = true,
        });
        if hint == Hint::Ended {
            // Who watches an account of the same key that is made later registers anew.
            by_account.remove(account);
        }
    }

    /// How many accounts are watched.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<Hints>>> {
        // No code under this lock can panic half-way through a change.
        self.by_account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Waits for the next hint; one that was given since the last call is there at once. Dropping the future loses
    /// nothing.
    pub async fn hint(&mut self) -> Hint {
        let Some(hints) = &mut self.hints else { return Hint::Ended };
        let seen = self.seen;
        let news = |hints: &Hints| hints.ended || hints.prekeys != seen.prekeys || hints.mailbox != seen.mailbox;
        let Ok(now) = hints.wait_for(news).await.map(|hints| *hints) else { return Hint::Ended };
        if now.ended {
            Hint::Ended
        } else if now.prekeys != seen.prekeys {
            // First, because it is rare and must not starve behind a busy mailbox.
            self.seen.prekeys = now.prekeys;
            Hint::Prekeys
        } else {
            self.seen.mailbox = now.mailbox;
            Hint::Mailbox
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut by_account = self.watchers.lock();
        // Inside the lock, so that of two that end together the second finds nobody left.
        self.hints = None;
        if let Entry::Occupied(entry) = by_account.entry(self.account)
            && entry.get().receiver_count() == 0
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::PublicKey;

    const ACCOUNT: AccountId = AccountId(PublicKey([1; 32]));

    #[tokio::test]
    async fn hints_run_together_and_none_of_a_kind_is_lost() {
        let watchers = Arc::new(Watchers::default());
        let mut watch = watchers.register(ACCOUNT);
        for _ in 0..1_000 {
            watchers.hint(&ACCOUNT, Hint::Mailbox);
        }
        watchers.hint(&ACCOUNT, Hint::Prekeys);
        assert_eq!(watch.hint().await, Hint::Prekeys);
        assert_eq!(watch.hint().await, Hint::Mailbox);
        watchers.hint(&ACCOUNT, Hint::Ended);
        assert_eq!(watch.hint().await, Hint::Ended);
        assert_eq!(watch.hint().await, Hint::Ended);
    }

    #[test]
    fn watches_that_ended_leave_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        let (one, two) = (watchers.register(ACCOUNT), watchers.register(ACCOUNT));
        drop(one);
        assert_eq!(watchers.len(), 1);
        drop(two);
        assert!(watchers.is_empty());
        let ended = watchers.register(ACCOUNT);
        watchers.hint(&ACCOUNT, Hint::Ended);
        let again = watchers.register(ACCOUNT);
        drop(ended);
        assert_eq!(watchers.len(), 1, "the watch on the new account stays");
        drop(again);
        assert!(watchers.is_empty());
    }
}
