//! After a loss of state (design, section 5, "Recovery"): ours, which the counter told, or a peer's, who says so in a note.
//!
//! Ours: all sessions are erased, all prekeys replaced, and whoever may write to us is told, one after the other. A peer's:
//! what was sealed for them since then is sealed anew in the new session, under its old ids. Nothing else starts either.
//!
//! `keys/recovery` says what is under way. `keys/told-N` lists the fingerprints of those who were told of our loss, N
//! being the second in which it was noticed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::alerts;
use super::engine::Engine;
use super::pending::Pending;
use super::sent::Place;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::disk::open::OpenError;
use crate::disk::system::Disk;
use crate::limits::{
    LOSS_MARGIN_S, RECOVERY_LIFETIME_S, RESEND_INTERVAL_S, SENT_LIFETIME_S, TELL_INTERVAL_MS, TOLD_AGAIN_MAX,
    UNOPENED_QUIET_S,
};
use crate::wire::Malformed;
use crate::wire::control::Control;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::recovery::{Loss, RecoveryState, Resend};
use crate::wire::reply::PrekeyCount;
use crate::wire::spool::{Form, Spooled};

const TOLD_PREFIX: &str = "told-";
const FINGERPRINT_BYTES: usize = 32;

/// What is under way.
#[derive(Debug, Default)]
pub struct Recovery {
    state: RecoveryState,
    is_dirty: bool,
    told: HashSet<Fingerprint>,
    told_bytes: u64,
    /// Who is still to be told, as of the last look at everything.
    untold: Vec<Fingerprint>,
    /// How often somebody was told again, in this run.
    told_again: HashMap<Fingerprint, u32>,
    /// When the next one is told.
    next: Option<Timestamp>,
}

impl Recovery {
    /// Reads `keys/recovery` and what belongs to it; without the file nothing is under way.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, keys: &Path) -> Result<Self, StateError> {
        let path = keys.join("recovery");
        let Some(bytes) = read_if_there(disk, &path)? else { return Ok(Self::default()) };
        let state = RecoveryState::from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error))?;
        let mut recovery = Self { state, ..Self::default() };
        if let Some(lost) = recovery.state.lost {
            let path = keys.join(told_name(&lost));
            let bytes = read_if_there(disk, &path)?.unwrap_or_default();
            let (entries, rest) = bytes.as_chunks::<FINGERPRINT_BYTES>();
            if !rest.is_empty() {
                let problem = Malformed::new("fingerprints", "its size is no multiple of 32");
                return Err(StateError::malformed(&path, problem));
            }
            recovery.told = entries.iter().copied().map(Fingerprint).collect();
            recovery.told_bytes = u64::try_from(bytes.len()).unwrap_or(0);
        }
        Ok(recovery)
    }

    /// The file's new content, if it changed since this was last asked; empty if it is to go.
    pub fn take_dirty(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.is_dirty).then(|| self.state.to_bytes())
    }

    /// Whether our own state was lost not long ago.
    pub fn has_lost(&self) -> bool {
        self.state.lost.is_some()
    }

    /// Envelopes that were kept up to this second may be of sessions that we have lost.
    pub fn quiet_until(&self) -> u64 {
        self.state.lost.map_or(0, |lost| lost.noticed.saturating_add(UNOPENED_QUIET_S))
    }

    /// Whether all prekeys at our server are to be replaced.
    pub fn prekeys_due(&self) -> bool {
        self.state.lost.is_some_and(|lost| lost.prekeys_due)
    }

    /// They were.
    pub fn prekeys_replaced(&mut self) {
        if let Some(lost) = self.state.lost.as_mut().filter(|lost| lost.prekeys_due) {
            lost.prekeys_due = false;
            self.is_dirty = true;
        }
    }

    /// Somebody lacks the session in which they were told, or has another: they are told once more.
    pub fn tell_again(&mut self, peer: &Fingerprint) {
        // Whoever was told once comes after all others, and a few times at most: a peer who asks again and again keeps nobody
        // from being told.
        let times = self.told_again.entry(*peer).or_default();
        if *times < TOLD_AGAIN_MAX && self.state.lost.is_some() && self.told.remove(peer) {
            *times += 1;
            self.untold.insert(0, *peer);
        }
    }

    /// What `status` says of it; none if nothing is under way. `name` is what somebody is called.
    pub fn status(&self, name: impl Fn(&Fingerprint) -> String) -> Option<String> {
        let telling = match self.untold.len() {
            0 => None,
            1 => Some("1 person is still to be told that state was lost here".to_owned()),
            untold => Some(format!("{untold} people are still to be told that state was lost here")),
        };
        let waiting = self.state.resends.iter().find(|resend| resend.again.is_some()).map(|resend| {
            let minutes = RESEND_INTERVAL_S / 60;
            format!("{} has lost state again, and gets messages again within {minutes} minutes", name(&resend.peer))
        });
        let open = |resend: &&Resend| !resend.is_done;
        let resending = self.state.resends.iter().find(open).map(|first| {
            let others = self.state.resends.iter().filter(open).count() - 1;
            let others = if others == 0 { String::new() } else { format!(" and {others} others") };
            format!("messages are sent again to {}{others}", name(&first.peer))
        });
        let parts: Vec<String> = telling.into_iter().chain(resending).chain(waiting).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What is to be sealed anew, with its place in the list.
    pub(super) fn open_resends(&self) -> Vec<(usize, Resend)> {
        let all = self.state.resends.iter().copied().enumerate();
        all.filter(|(_, resend)| !resend.is_done).collect()
    }

    pub(super) fn resend_is_done(&mut self, place: usize) {
        if let Some(resend) = self.state.resends.get_mut(place) {
            resend.is_done = true;
            self.is_dirty = true;
        }
    }

    /// A peer asks again for what was sealed for them since then. True if that begins now; a second request within
    /// [`RESEND_INTERVAL_S`] waits until it is over.
    fn ask(&mut self, peer: Fingerprint, since: u64, until: Place, now_s: u64) -> bool {
        self.is_dirty = true;
        let before = self.state.resends.iter_mut().find(|resend| resend.peer == peer && resend.asked.is_some());
        match before {
            Some(before) => {
                before.again = Some(before.again.map_or(since, |again| again.min(since)));
                false
            }
            None => {
                let resend = Resend { asked: Some(now_s), introduces: true, ..Resend::begin(peer, since, (0, until)) };
                self.state.resends.push(resend);
                true
            }
        }
    }

    /// Lets go of requests that are done and no longer hold back another, and hands out whose second one begins now.
    fn pass(&mut self, until: Place, now_s: u64) -> Vec<Fingerprint> {
        let is_over = |resend: &Resend| {
            // A time in the future was noted before the clock was set back.
            let waits = |asked: u64| (asked..asked.saturating_add(RESEND_INTERVAL_S)).contains(&now_s);
            resend.is_done && !resend.introduces && !resend.asked.is_some_and(waits)
        };
        let over: Vec<Resend> = self.state.resends.extract_if(.., |resend| is_over(resend)).collect();
        self.is_dirty |= !over.is_empty();
        let again = over.into_iter().filter_map(|resend| Some((resend.peer, resend.again?)));
        let again: Vec<(Fingerprint, u64)> = again.collect();
        again.into_iter().filter(|(peer, since)| self.ask(*peer, *since, until, now_s)).map(|(peer, _)| peer).collect()
    }

    /// From which conversation on all are still to be counted anew.
    pub(super) fn renewing(&self) -> Option<ConversationId> {
        self.state.lost.and_then(|lost| lost.renewing_from)
    }

    /// Those before this one are; all of them, if there is none.
    pub(super) fn renew_from(&mut self, next: Option<ConversationId>) {
        if let Some(lost) = &mut self.state.lost {
            lost.renewing_from = next;
            self.is_dirty = true;
        }
    }

    /// Whether somebody knows nothing of our conversations for all we know, though it is not noted in all of them.
    pub(super) fn introduces(&self, peer: &Fingerprint) -> bool {
        self.state.resends.iter().any(|resend| resend.introduces && resend.peer == *peer)
    }

    /// Somebody of whom that is so.
    pub(super) fn introducing(&self) -> Option<Fingerprint> {
        self.state.resends.iter().find(|resend| resend.introduces).map(|resend| resend.peer)
    }

    /// It is noted in all of them.
    pub(super) fn introduced(&mut self, peer: &Fingerprint) {
        self.state
            .resends
            .iter_mut()
            .filter(|resend| resend.peer == *peer)
            .for_each(|resend| resend.introduces = false);
        self.is_dirty = true;
    }

    /// Our own state was lost: begins to tell everybody.
    fn begin(&mut self, lost: Loss, pending: &mut Pending) {
        if let Some(before) = self.state.lost.replace(lost) {
            pending.remove(Path::new("keys").join(told_name(&before)));
        }
        self.is_dirty = true;
        self.told.clear();
        self.told_again.clear();
        self.told_bytes = 0;
        self.untold.clear();
    }

    /// It is long ago.
    fn end(&mut self, pending: &mut Pending) {
        if let Some(lost) = self.state.lost.take() {
            pending.remove(Path::new("keys").join(told_name(&lost)));
        }
        self.is_dirty = true;
        self.told.clear();
        self.untold.clear();
    }

    fn note_told(&mut self, peer: Fingerprint, pending: &mut Pending) {
        let Some(lost) = self.state.lost else { return };
        pending.append(Path::new("keys").join(told_name(&lost)), self.told_bytes, peer.0.to_vec());
        self.told_bytes += 32;
        self.told.insert(peer);
    }
}

fn told_name(lost: &Loss) -> PathBuf {
    PathBuf::from(format!("{TOLD_PREFIX}{}", lost.noticed))
}

fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    match state::read(disk, path) {
        Err(StateError::Open { source: OpenError::Absent, .. }) => Ok(None),
        read => read.map(Some),
    }
}

impl Engine {
    /// Our state is an old one: what it holds of sessions and prekeys must not serve any more.
    pub(super) fn lose_state(&mut self, written: Option<u64>, unchecked_from: Option<Place>, now: Timestamp) {
        let text = "The state in this directory is older than what its home server has seen of it: a backup was restored, \
                    keys/ was lost, or a second copy is in use. All sessions are replaced, and your contacts are asked to \
                    send again what has not been acknowledged to them; the rest of what came since then, and what you \
                    wrote, only they have.\n\
                    If you restored a backup or lost keys/, that is all, unless you have moved to another home server \
                    since: then name it again with `chatterbox profile set --server`. If a second copy is in use, stop one \
                    of them. If none of this is so, somebody else has your keys: make a new account and tell your contacts.";
        alerts::raise(&self.root, &mut self.pending, now, "rollback", "", text);
        let since = written.map_or(0, |written| written.min(now.seconds()).saturating_sub(LOSS_MARGIN_S));
        // Of an earlier loss perhaps not all were told.
        let since = self.recovery.state.lost.map_or(since, |before| before.since.min(since));
        let noticed = match self.recovery.state.lost {
            Some(before) => now.seconds().max(before.noticed + 1),
            None => now.seconds(),
        };
        let renewing_from = Some(ConversationId([0; 16]));
        self.recovery.begin(Loss { noticed, since, prekeys_due: true, renewing_from }, &mut self.pending);
        self.sessions.erase_all();
        self.spool.doubt();
        self.prekeys.erase_all();
        self.uploads.clear();
        self.uploading = false;
        self.count_prekeys(PrekeyCount::default(), false, now);
        self.renew_conversations();
        // What was sealed before anybody knew may have met keys that were used.
        if let Some(from) = unchecked_from {
            let until = self.sent.next_place();
            let resends = self.sent.recipients_from(from).into_iter().map(|peer| Resend::begin(peer, 0, (from, until)));
            self.recovery.state.resends.extend(resends);
        }
        self.look_for_untold(now);
    }

    /// Who is still to be told of our loss: contacts and members of our conversations, also those who were added since.
    pub(super) fn look_for_untold(&mut self, now: Timestamp) {
        let Some(lost) = self.recovery.state.lost else { return };
        let is_done = !lost.prekeys_due && lost.renewing_from.is_none();
        if lost.noticed.saturating_add(RECOVERY_LIFETIME_S) < now.seconds() && is_done {
            return self.recovery.end(&mut self.pending);
        }
        let contacts = self.people.contacts().iter().map(|contact| contact.profile.identity().fingerprint());
        let members = self.conversations.iter().filter(|record| record.accepted);
        let all: HashSet<Fingerprint> = contacts.chain(members.flat_map(|record| record.participants())).collect();
        let own = self.people.own_fingerprint();
        let is_untold =
            |peer: &Fingerprint| *peer != own && !self.recovery.told.contains(peer) && !self.people.is_blocked(peer);
        self.recovery.untold = all.into_iter().filter(is_untold).collect();
    }

    /// Once a second: goes on with whatever is under way.
    pub(super) fn recover(&mut self, now: Timestamp) {
        self.tell_next(now);
        for peer in self.recovery.pass(self.sent.next_place(), now.seconds()) {
            self.renew_conversations();
            self.begin_parts_anew(&peer, now);
        }
        self.resend_next(now);
    }

    fn tell_next(&mut self, now: Timestamp) {
        let Some(lost) = self.recovery.state.lost else { return };
        // A time further off than any wait was set before the clock jumped back.
        let wait_ms = self.recovery.next.map_or(0, |next| next.millis_since(now));
        if (1..=2 * TELL_INTERVAL_MS).contains(&wait_ms) {
            return;
        }
        let Some(peer) = self.recovery.untold.pop() else { return };
        let jitter_ms = self.rng.next_u64() % TELL_INTERVAL_MS;
        let next = now.micros().saturating_add(1_000 * (TELL_INTERVAL_MS + jitter_ms));
        self.recovery.next = Some(Timestamp::from_micros(next));
        self.recovery.note_told(peer, &mut self.pending);
        self.sessions.renew(&peer, now.seconds());
        self.queue_note(peer, &Control { lost_since: Some(lost.since), ..Control::default() }, now);
    }

    /// Queues a note for somebody's program, in the session of its turn.
    pub(super) fn queue_note(&mut self, recipient: Fingerprint, note: &Control, now: Timestamp) {
        let item = Spooled {
            message: MessageId(self.random_16()),
            conversation: ConversationId([0; 16]),
            file: String::new(),
            is_part: false,
            // All contacts are told, one after the other; what is missing has often been missing from several; and when
            // something is acknowledged the server that pushed it may decide.
            spreads: note.lost_since.is_some()
                || !note.missing.is_empty()
                || !note.acknowledged.is_empty()
                || !note.refused.is_empty()
                || !note.cancelled.is_empty()
                || !note.withdrawn.is_empty(),
            form: Form::Waiting(Zeroizing::new(note.to_bytes())),
        };
        self.spool.push(recipient, item, now, &mut self.pending);
        self.look_for_unsealed(now);
    }

    /// A contact, or a member of a conversation of ours, has lost state and asks again for what we sent since then.
    pub(super) fn send_again(&mut self, peer: Fingerprint, since: u64, now: Timestamp) {
        let since = since.max(now.seconds().saturating_sub(SENT_LIFETIME_S));
        if self.recovery.ask(peer, since, self.sent.next_place(), now.seconds()) {
            self.renew_conversations();
            self.begin_parts_anew(&peer, now);
            // If we have lost state as well, what they lost may be what told them so. Not for each of their notes, or two
            // would tell each other for ever.
            self.recovery.tell_again(&peer);
        }
        // At once also where the messages wait: the loss may be a thief's doing.
        let name = self.people.name(&peer);
        let text = format!(
            "{name} has restored a backup or lost the state of their program, and what you sent them since is sent again where they had not \
             acknowledged it.\n\
             If they say that they did not, somebody else has their keys: ask them by another way."
        );
        alerts::raise(&self.root, &mut self.pending, now, "recovered", &peer.short(8), &text);
    }

    /// The directory of a conversation that our state has lost, where it still stands.
    pub(super) fn standing_directory(&self, id: &ConversationId) -> Option<String> {
        self.recovery.has_lost().then(|| super::conversation::find(&self.root, id)).flatten()
    }

    /// Somebody's envelope met a key that was used, and is not one that came before.
    pub(super) fn alert_repeated(&mut self, peer: &Fingerprint, now: Timestamp) {
        if self.people.is_blocked(peer) {
            return;
        }
        let name = self.people.name(peer);
        let text = format!(
            "An envelope came in a session with {name} under a key that was used before, or given up, and was dropped.\n\
             Ask {name} whether they restored a backup; if not, somebody repeats or changes what they sent."
        );
        alerts::raise(&self.root, &mut self.pending, now, "repeated", &peer.short(8), &text);
    }

    /// Whether something is under way that needs no event but time.
    #[cfg(test)]
    pub fn is_recovering(&self) -> bool {
        !self.recovery.untold.is_empty() || !self.recovery.open_resends().is_empty()
    }
}

#[cfg(test)]
mod tests;
