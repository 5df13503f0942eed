//! What each write does to a group: reads and decisions first, writes then.

use super::committer::Group;
use super::layout::{self, AccountRecord, META_ACCOUNTS, Table};
use super::tables::damaged;
use crate::clock::Timestamp;
use crate::limits::{ACCOUNTS_MAX, MAILBOX_ENVELOPES_MAX, PREKEYS_PER_ACCOUNT_MAX, PREKEYS_REFILL_BELOW};
use crate::server::store::Stored;
use crate::server::store::watch::Hint;
use crate::wire::envelope::Envelope;
use crate::wire::identity::AccountId;
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::reply::Refusal;

pub(super) fn create_account(group: &mut Group<'_>, account: &AccountId) -> Stored<()> {
    match group.account(account) {
        Err(Refusal::NoAccount) => {}
        other => return other.map(|_| ()),
    }
    let accounts = accounts(group)?;
    if accounts >= ACCOUNTS_MAX {
        return Err(Refusal::ServerFull);
    }
    group.put(Table::Meta, META_ACCOUNTS.to_vec(), (accounts + 1).to_le_bytes().to_vec());
    group.put_account(account, AccountRecord::default());
    Ok(())
}

pub(super) fn delete_account(group: &mut Group<'_>, account: &AccountId) -> Stored<()> {
    group.account(account)?;
    let accounts = accounts(group)?;
    group.put(Table::Meta, META_ACCOUNTS.to_vec(), accounts.saturating_sub(1).to_le_bytes().to_vec());
    group.wipe(account);
    group.hint(*account, Hint::Ended);
    Ok(())
}

fn accounts(group: &Group<'_>) -> Stored<u64> {
    match group.get(Table::Meta, META_ACCOUNTS.to_vec())? {
        Some(bytes) => layout::number(&bytes).ok_or_else(|| damaged(Table::Meta)),
        None => Ok(0),
    }
}

/// `sha256` is the envelope's: computed by who asks, so that the one thread that writes does not hash.
pub(super) fn deliver(
    group: &mut Group<'_>,
    account: &AccountId,
    envelope: &Envelope,
    sha256: [u8; 32],
    now: Timestamp,
) -> Stored<()> {
    let mut record = group.account(account)?;
    let copy = layout::copy(account, &sha256);
    if group.get(Table::Copies, copy.clone())?.is_some() {
        return Ok(());
    }
    if record.envelopes >= MAILBOX_ENVELOPES_MAX {
        return Err(Refusal::MailboxFull);
    }
    let id = now.micros().max(record.last_id.saturating_add(1));
    record.last_id = id;
    record.envelopes += 1;
    group.put_account(account, record);
    group.put_unread(Table::Envelopes, &layout::envelope(account, id), envelope.as_bytes());
    group.put(Table::Listing, layout::envelope(account, id), sha256.to_vec());
    group.put(Table::Copies, copy, id.to_le_bytes().to_vec());
    group.hint(*account, Hint::Mailbox);
    Ok(())
}

pub(super) fn delete_envelopes(group: &mut Group<'_>, account: &AccountId, mut ids: Vec<u64>) -> Stored<()> {
    let mut record = group.account(account)?;
    ids.sort_unstable();
    ids.dedup();
    let mut present = Vec::new();
    for id in ids {
        if let Some(sha256) = group.get(Table::Listing, layout::envelope(account, id))? {
            present.push((id, sha256));
        }
    }
    if present.is_empty() {
        return Ok(());
    }
    record.envelopes = record.envelopes.saturating_sub(present.len() as u64);
    group.put_account(account, record);
    for (id, sha256) in present {
        group.delete(Table::Envelopes, layout::envelope(account, id));
        group.delete(Table::Listing, layout::envelope(account, id));
        group.delete(Table::Copies, layout::copy(account, &sha256));
    }
    Ok(())
}

pub(super) fn add_prekeys(
    group: &mut Group<'_>,
    account: &AccountId,
    prekeys: Vec<SignedPrekey>,
    replace: bool,
    now: Timestamp,
) -> Stored<()> {
    let mut record = group.account(account)?;
    let pool = pool(group, account, &record)?;
    let expired = pool.iter().take_while(|prekey| is_expired(prekey, now)).count();
    let dropped = if replace { pool.len() } else { expired };
    let mut fresh: Vec<SignedPrekey> = Vec::new();
    let mut last_resort = None;
    for prekey in prekeys.into_iter().filter(|prekey| !is_expired(prekey, now)) {
        let known = || pool.iter().skip(dropped).chain(&fresh).any(|pooled| pooled.id == prekey.id);
        match prekey.kind {
            PrekeyKind::LastResort => last_resort = Some(prekey),
            // A repeated upload: twice in the pool it would be handed out twice.
            PrekeyKind::OneTime if known() => {}
            PrekeyKind::OneTime => fresh.push(prekey),
        }
    }
    if pool.len() - dropped + fresh.len() > PREKEYS_PER_ACCOUNT_MAX {
        return Err(Refusal::PrekeysFull);
    }
    for _ in 0..dropped {
        group.delete(Table::Prekeys, layout::one_time(account, record.prekeys_start));
        record.prekeys_start += 1;
    }
    for prekey in fresh {
        group.put(Table::Prekeys, layout::one_time(account, record.prekeys_end), prekey.to_bytes());
        record.prekeys_end += 1;
    }
    match last_resort {
        Some(prekey) => group.put(Table::Prekeys, layout::last_resort(account), prekey.to_bytes()),
        None if replace => group.delete(Table::Prekeys, layout::last_resort(account)),
        None => {}
    }
    group.put_account(account, record);
    Ok(())
}

pub(super) fn take_prekey(group: &mut Group<'_>, account: &AccountId, now: Timestamp) -> Stored<SignedPrekey> {
    let before = group.account(account)?;
    let mut record = before;
    let mut taken = None;
    while taken.is_none() && record.prekeys() > 0 {
        let prekey = one_time(group, account, record.prekeys_start)?;
        record.prekeys_start += 1;
        taken = Some(prekey).filter(|prekey| !is_expired(prekey, now));
    }
    let last_resort = match &taken {
        Some(_) => None,
        None => group.get(Table::Prekeys, layout::last_resort(account))?,
    };
    if record != before {
        for position in before.prekeys_start..record.prekeys_start {
            group.delete(Table::Prekeys, layout::one_time(account, position));
        }
        group.put_account(account, record);
    }
    if record.prekeys() < PREKEYS_REFILL_BELOW as u64 {
        group.hint(*account, Hint::Prekeys);
    }
    match (taken, last_resort) {
        (Some(prekey), _) => Ok(prekey),
        (None, Some(bytes)) => Some(parse(&bytes)?).filter(|prekey| !is_expired(prekey, now)).ok_or(Refusal::NoPrekey),
        (None, None) => Err(Refusal::NoPrekey),
    }
}

pub(super) fn write_counter(group: &mut Group<'_>, account: &AccountId, record: Vec<u8>) -> Stored<()> {
    group.account(account)?;
    group.put(Table::Counters, layout::account(account), record);
    Ok(())
}

pub(super) fn is_expired(prekey: &SignedPrekey, now: Timestamp) -> bool {
    prekey.expires <= now.seconds()
}

pub(super) fn parse(bytes: &[u8]) -> Stored<SignedPrekey> {
    SignedPrekey::from_bytes(bytes).map_err(|_| damaged(Table::Prekeys))
}

fn one_time(group: &Group<'_>, account: &AccountId, position: u64) -> Stored<SignedPrekey> {
    let bytes = group.get(Table::Prekeys, layout::one_time(account, position))?;
    parse(&bytes.ok_or_else(|| damaged(Table::Prekeys))?)
}

/// All one-time prekeys, oldest first: at most [`PREKEYS_PER_ACCOUNT_MAX`].
fn pool(group: &Group<'_>, account: &AccountId, record: &AccountRecord) -> Stored<Vec<SignedPrekey>> {
    (record.prekeys_start..record.prekeys_end).map(|position| one_time(group, account, position)).collect()
}
