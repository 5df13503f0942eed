//! Prekeys, and what waits for them: filling our own pool, and opening sessions through other people's.

use super::backoff::Backoff;
use super::delivery::State;
use super::engine::Engine;
use crate::clock::Timestamp;
use crate::limits::{RECONNECT_DELAY_MAX_MS, SEAL_BATCH_MAX};
use crate::wire::control::Control;
use crate::wire::identity::Fingerprint;
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::PrekeyCount;
use crate::wire::spool::{Form, Spooled};

/// A prekey that we want.
#[derive(Debug, Default)]
pub(super) struct Asked {
    backoff: Backoff,
    /// When it may be asked for again; while an answer is out, never.
    pub(super) again: Option<Timestamp>,
}

impl Asked {
    /// Whether it is time. A time further off than any wait was set before the clock jumped back.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let wait = |again: Timestamp| again.millis_since(now);
        self.again.is_some_and(|again| wait(again) == 0 || wait(again) > RECONNECT_DELAY_MAX_MS)
    }
}

impl Engine {
    /// What our server holds of our prekeys: makes and uploads what is missing. `is_answer` where we asked for this count
    /// because of an opening.
    pub(super) fn count_prekeys(&mut self, count: PrekeyCount, is_answer: bool, now: Timestamp) {
        // The first one of a connection was counted before anything was pushed.
        let is_answer = is_answer || self.prekeys_at_server.is_none();
        self.prekeys_at_server = Some(count);
        self.used_since_count = 0;
        if self.prekeys.counted(count, is_answer) {
            self.alert_needless_last_resort(now);
        }
        if self.presence.has_drained() {
            self.prekeys.forget_expired(now.seconds());
        }
        // The server may complain of a low pool more than once before our upload arrives.
        if self.uploading {
            return;
        }
        // Prekeys whose secrets are lost count for nothing.
        let count = if self.recovery.prekeys_due() { PrekeyCount::default() } else { count };
        let made = self.prekeys.refill(&self.account.keys, count, now.seconds(), &mut self.rng);
        self.uploading = !made.is_empty();
        self.uploads.extend(made);
    }

    /// A prekey from somebody else's server, which may lie about it.
    pub(super) fn take_prekey(&mut self, recipient: Fingerprint, prekey: &SignedPrekey, now: Timestamp) {
        // All state was read anew since it was asked for: it is asked for again.
        if !self.counter.may_seal() {
            return;
        }
        let Some(identity) = self.people.profile(&recipient).map(|profile| *profile.identity()) else { return };
        if prekey.verify(&identity).is_err() || prekey.expires <= now.seconds() {
            let problem = "the server handed out a prekey that is not theirs or is too old";
            return self.ask_again_later(recipient, problem, now);
        }
        if self.may_open(&recipient, now) {
            let first = self.spool.waiting(&self.root, &recipient, 1).into_iter().next();
            if first.is_none() && self.spool.has_waiting(&recipient) {
                return self.ask_again_later(recipient, "what waits for them cannot be read from the disk now", now);
            }
            // Where nothing waits, a part of a large content carries the opening, or a note that says nothing.
            let part = if first.is_none() { self.next_part(&recipient, now) } else { None };
            let bytes = part.as_ref().map(|part| part.payload.to_bytes());
            let note = Control::default().to_bytes();
            let payload = match (&first, &bytes) {
                (Some((_, Spooled { form: Form::Waiting(payload), .. })), _) => &payload[..],
                (_, Some(bytes)) => &bytes[..],
                _ => &note,
            };
            let keys = &self.account.keys;
            let opened = self.sessions.open_and_seal(keys, &identity, prekey, payload, now.micros(), &mut self.rng);
            let Ok(envelope) = opened else {
                return self.ask_again_later(recipient, "the server handed out a prekey with a bad key in it", now);
            };
            let file = first.as_ref().map_or_else(String::new, |(_, first)| first.file.clone());
            if let Some(part) = part {
                self.part_sealed(recipient, &part, envelope, true, now);
                return self.opened_session(recipient, now);
            }
            self.note_sealed(recipient, payload, &file, now);
            let form = Form::Sealed { envelope, opening: true };
            match first {
                Some((sequence, first)) => {
                    self.set_state(&first.conversation, &first.file, &recipient, State::Sealed, now);
                    self.spool.seal(&recipient, sequence, Spooled { form, ..first }, &mut self.pending);
                }
                None => self.spool_note(recipient, form, now),
            }
        }
        self.opened_session(recipient, now);
    }

    fn opened_session(&mut self, recipient: Fingerprint, now: Timestamp) {
        self.asked.remove(&recipient);
        self.trouble.remove(&recipient);
        self.seal_waiting(&recipient, now);
    }

    pub(super) fn ask_again_later(&mut self, recipient: Fingerprint, reason: &str, now: Timestamp) {
        let asked = self.asked.entry(recipient).or_default();
        let wait = asked.backoff.failed(&mut self.rng);
        let wait_micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        asked.again = Some(Timestamp::from_micros(now.micros().saturating_add(wait_micros)));
        self.note_trouble(recipient, reason.to_owned(), now);
    }

    /// Somebody's server does not answer, or refuses. What that was about may have been given up meanwhile.
    pub(super) fn note_trouble(&mut self, recipient: Fingerprint, reason: String, now: Timestamp) {
        let waits = self.spool.has_any(&recipient) || self.large.waits_for(&recipient);
        if waits || self.sessions.is_outranked(&recipient, now.seconds()) {
            self.trouble.insert(recipient, reason);
        }
    }

    /// Whether a session with somebody is to be opened now. One in place of another whose chain nobody has answered is
    /// opened only once the answer cannot be on its way to us any more.
    pub(super) fn may_open(&self, recipient: &Fingerprint, now: Timestamp) -> bool {
        let is_due = || self.sessions.highest(recipient).is_none() || self.presence.has_settled();
        let waits = self.spool.has_waiting(recipient) || self.large.waits_for(recipient);
        let lacks = waits && !self.sessions.is_usable(recipient, now.seconds());
        self.sessions.is_outranked(recipient, now.seconds()) || (lacks && is_due())
    }

    /// Finds those for whom something waits although there is a session: the last run ended between two batches of it, or
    /// the disk did not give some of it.
    pub(super) fn look_for_unsealed(&mut self, now: Timestamp) {
        if !self.counter.may_seal() {
            return;
        }
        let usable = |recipient: &Fingerprint| self.sessions.is_usable(recipient, now.seconds());
        let ready = |recipient: &Fingerprint| self.spool.has_waiting(recipient) && usable(recipient);
        let found: Vec<Fingerprint> = self.spool.recipients().into_iter().filter(ready).collect();
        self.unsealed.extend(found);
    }

    /// Seals everything that waited for a session with `recipient`, if there is one now.
    pub(super) fn seal_waiting(&mut self, recipient: &Fingerprint, now: Timestamp) {
        if !self.counter.may_seal() {
            return;
        }
        let waiting = self.spool.waiting(&self.root, recipient, SEAL_BATCH_MAX);
        if waiting.len() == SEAL_BATCH_MAX && self.sessions.is_usable(recipient, now.seconds()) {
            self.unsealed.insert(*recipient);
        }
        for (sequence, item) in waiting {
            let Form::Waiting(payload) = &item.form else { continue };
            let sealed = self.sessions.seal(&self.account.keys, recipient, payload, now.seconds(), &mut self.rng);
            let sealed = sealed.expect("payloads are measured when they are made");
            let Some(envelope) = sealed else { return };
            self.note_sealed(*recipient, payload, &item.file, now);
            let form = Form::Sealed { envelope, opening: false };
            self.set_state(&item.conversation, &item.file, recipient, State::Sealed, now);
            self.spool.seal(recipient, sequence, Spooled { form, ..item }, &mut self.pending);
        }
    }
}
