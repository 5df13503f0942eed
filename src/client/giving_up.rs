//! Messages that do not arrive: what is not delivered within the retry period is given up, and nobody is left to wonder (design,
//! section 2). Its state is `failed`, with a reason, and an alert says so; where it may have arrived all the same, it says that.
//! An acknowledgement that comes later still makes it `delivered`.

use std::collections::{BTreeMap, BTreeSet};

use super::alerts;
use super::conversation::stands_elsewhere;
use super::delivery::State;
use super::engine::Engine;
use super::letting_go::Because;
use super::spool::Removed;
use crate::clock::Timestamp;
use crate::limits::{GIVE_UP_GRACE_MS, GIVEN_UP_MAX, PRESENCE_STEP_MAX_MS, REFUSED_NAMED_MAX, RESCAN_INTERVAL_MS};
use crate::wire::control::{Refused, RefusedReason};
use crate::wire::identity::Fingerprint;
use crate::wire::large::LargeRecord;
use crate::wire::sent::{Fate, SentEntry, SentKey};

/// When it is time to look for what is too old.
#[derive(Debug, Default)]
pub struct GivingUp {
    last: Option<Timestamp>,
    /// How long this run goes on, since the machine slept or its clock was set.
    steady_ms: u64,
    since_look_ms: u64,
    /// Of whose messages a person was told, while more of them are being given up.
    told: BTreeSet<Fingerprint>,
}

impl GivingUp {
    /// Time has passed. True if it is time to look. Not soon after the start, nor after a sleep: what has become too old
    /// meanwhile was not tried meanwhile.
    fn pass(&mut self, period_ms: u64, now: Timestamp) -> bool {
        let last = self.last.replace(now).unwrap_or(now);
        let step_ms = now.millis_since(last);
        if now < last || step_ms > PRESENCE_STEP_MAX_MS {
            self.steady_ms = 0;
            return false;
        }
        self.steady_ms += step_ms;
        self.since_look_ms += step_ms;
        let is_due = self.steady_ms >= GIVE_UP_GRACE_MS.min(period_ms);
        let is_due = is_due && self.since_look_ms >= RESCAN_INTERVAL_MS.min(period_ms / 4);
        if is_due {
            self.since_look_ms = 0;
        }
        is_due
    }

    /// More is too old than one batch takes: the next look comes at once.
    fn go_on(&mut self) {
        self.since_look_ms = RESCAN_INTERVAL_MS;
    }
}

impl Engine {
    /// Now and then: gives up what is too old.
    pub(super) fn give_up_when_due(&mut self, now: Timestamp) {
        let period_ms = u64::try_from(self.policy.retry_period.as_millis()).unwrap_or(u64::MAX);
        // Nor is it by a clock that may be wrong: what it says to be too old was queued just now, perhaps. Nor before the home server
        // was asked whether this state is the newest: only then is it known what the last stop knew.
        if !self.giving_up.pass(period_ms, now) || !self.steady.is_trusted() || !self.counter.may_seal() {
            return;
        }
        let limit = Timestamp::from_micros(now.micros().saturating_sub(period_ms.saturating_mul(1_000)));
        for recipient in self.spool.recipients() {
            if self.is_full() {
                self.giving_up.go_on();
                return;
            }
            self.give_up(recipient, limit, now);
        }
        self.give_up_large(limit, now);
        self.give_up_unacknowledged(limit, now);
    }

    /// Gives up what was queued for somebody before `limit`.
    fn give_up(&mut self, recipient: Fingerprint, limit: Timestamp, now: Timestamp) {
        let mut places = self.spool.places_before(&recipient, limit, now);
        let left = places.len().saturating_sub(GIVEN_UP_MAX);
        places.truncate(GIVEN_UP_MAX);
        if places.is_empty() {
            return;
        }
        let reason = self.why_unconfirmed(&recipient);
        self.note_unsealed(recipient, &places, now);
        let gone = self.let_go(recipient, &places, Because::GivenUp, now);
        if gone.is_empty() {
            return;
        }
        // Whatever these would have told of that.
        self.recovery.tell_again(&recipient);
        let mut failed = BTreeMap::new();
        for Removed { message, conversation, file, may_have_arrived, .. } in gone {
            let was_sent = self.sent.was_sent_again(&SentKey { recipient, conversation, message });
            let is_unknown = if may_have_arrived || was_sent { "; it is not known whether it arrived" } else { "" };
            let reason = format!("{reason}{is_unknown}");
            self.large.end(&message, &recipient);
            if self.fail(&SentKey { recipient, conversation, message }, &file, Fate::Failed, &reason, now) {
                failed.insert(file, reason);
            }
        }
        if !self.spool.has_any(&recipient) {
            self.trouble.remove(&recipient);
        }
        if left > 0 {
            self.giving_up.go_on();
        }
        let count = failed.len() + left;
        if let Some((file, reason)) = failed.pop_last()
            && self.giving_up.told.insert(recipient)
        {
            let name = self.people.name(&recipient);
            let what = if count == 1 { file } else { format!("{count} messages") };
            let text = format!(
                "{what} to {name} could not be delivered: {reason}.\n\
                 Ask {name} by another way what they have, and send again what they did not get: `chatterbox show` says what has failed."
            );
            alerts::raise(&self.root, &mut self.pending, now, "undeliverable", &recipient.short(8), &text);
        }
        if left == 0 {
            self.giving_up.told.remove(&recipient);
        }
    }

    /// Large contents of which nothing could be sealed for somebody, because there was no session.
    fn give_up_large(&mut self, limit: Timestamp, now: Timestamp) {
        for (recipient, large) in self.large.stuck_since(limit, now) {
            let LargeRecord { message, conversation, file, .. } = large;
            // Parts that wait are given up with the others of their queue; and where their server takes something, this comes.
            let is_served = self.served.get(&recipient).is_some_and(|served| (limit..=now).contains(served));
            if is_served || self.spool.parts_of(&recipient, &message) > 0 {
                continue;
            }
            let was_sent = self.sent.was_sent_again(&SentKey { recipient, conversation, message });
            let is_unknown = if was_sent { "; it is not known whether it arrived" } else { "" };
            let reason = format!("{}{is_unknown}", self.why_unconfirmed(&recipient));
            self.note_unsealed_large(recipient, &message, now);
            self.large.end(&message, &recipient);
            self.let_go(recipient, &[], Because::GivenUp, now);
            if self.fail(&SentKey { recipient, conversation, message }, &file, Fate::Failed, &reason, now) {
                let name = self.people.name(&recipient);
                let text = format!(
                    "{file} to {name} could not be delivered: {reason}.\n\
                     Ask {name} by another way whether they still have this account, and send it again."
                );
                alerts::raise(&self.root, &mut self.pending, now, "undeliverable", &recipient.short(8), &text);
            }
        }
    }

    /// Messages that their recipient's server has had since before `limit`, and that nobody has acknowledged although others
    /// of the conversation were: perhaps their recipient cannot read them.
    fn give_up_unacknowledged(&mut self, limit: Timestamp, now: Timestamp) {
        let expects = |key: &SentKey| {
            !self.people.is_blocked(&key.recipient)
                && self.acknowledging.is_acknowledging(&key.recipient, &key.conversation)
        };
        let mut open = self.sent.open_before(limit.seconds(), expects);
        // Of those who are blocked nothing is heard: their silence says nothing, also once they are not blocked any more.
        let unheard = |key: &SentKey| self.people.is_blocked(&key.recipient);
        let unheard = self.sent.open_before(now.seconds(), unheard).into_iter();
        // What has still to be written into `.delivery/` goes by what is decided: that was accepted, and not given up.
        for entry in unheard.filter(|entry| !self.conversations.is_behind(&entry.conversation)).take(GIVEN_UP_MAX) {
            self.sent.decide(&entry.key(), Fate::Failed, &mut self.pending);
        }
        open.sort_unstable_by_key(|entry| (entry.sealed, entry.time));
        let period = humantime::format_duration(self.policy.retry_period);
        let reason =
            format!("their server has it, but it was not acknowledged in {period}: it is not known whether it arrived");
        let mut failed: BTreeMap<Fingerprint, Vec<SentEntry>> = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut is_elsewhere = BTreeMap::new();
        let mut room = GIVEN_UP_MAX;
        for entry in open {
            let key = entry.key();
            let id = key.conversation;
            let place = places.entry(id).or_insert_with(|| self.conversations.unmoved_place(&self.root, &id));
            // What cannot be asked now is asked when it can be, and takes no room from others until then.
            let Some(place) = place else { continue };
            if room == 0 {
                break;
            }
            room -= 1;
            let is_due = match self.state_of(&id, &entry.file, &key.recipient) {
                Some((state, since)) => state == State::Accepted && since < limit,
                // It stands in a directory that could not be used, so that the conversation goes on in another.
                None if *is_elsewhere.entry(id).or_insert_with(|| stands_elsewhere(&self.root, &id, place)) => {
                    !self.is_on_its_way(&key)
                }
                None => {
                    // A person has deleted it: there is nobody to tell.
                    self.sent.decide(&key, Fate::Failed, &mut self.pending);
                    continue;
                }
            };
            if is_due && self.fail(&key, &entry.file, Fate::Failed, &reason, now) {
                failed.entry(key.recipient).or_default().push(entry);
            }
        }
        for (recipient, entries) in failed {
            // Who has written meanwhile and acknowledged nothing may have turned it off: once more is said of them, and no
            // more until they do it again.
            let silent: BTreeSet<_> = entries.iter().map(|entry| entry.conversation).collect();
            let since = entries.iter().map(|entry| entry.sealed).max().unwrap_or(0);
            let has_written = self.acknowledging.was_heard_since(&recipient, since);
            if has_written {
                silent.iter().for_each(|conversation| self.acknowledging.expect_no_more(&recipient, conversation));
            }
            let name = self.people.name(&recipient);
            let what = match &entries[..] {
                [entry] => entry.file.clone(),
                several => format!("{} messages", several.len()),
            };
            let off = if has_written { ", or they have turned acknowledgements off" } else { "" };
            let text = format!(
                "{what} to {name} may not have arrived: {reason}.\n\
                 Ask {name} by another way, and send again what they did not get. They may be away{off}."
            );
            alerts::raise(&self.root, &mut self.pending, now, "undeliverable", &recipient.short(8), &text);
        }
    }

    /// Somebody will not take messages of ours. What we did not send them is not heeded.
    pub(super) fn heed_refused(&mut self, recipient: Fingerprint, refused: &[Refused], now: Timestamp) {
        let mut told: Vec<String> = Vec::new();
        let mut remedies = BTreeSet::new();
        for Refused { conversation, id, reason } in refused {
            let key = SentKey { recipient, conversation: *conversation, message: *id };
            let Some(file) = self.sent.get(&key).map(|entry| entry.file.clone()) else { continue };
            let (reason, remedy) = match reason {
                RefusedReason::TooLarge => ("it is larger than their settings take", "Send less, or another way."),
                RefusedReason::Damaged => ("what arrived of it is damaged", "Send it again."),
                RefusedReason::Unknown => ("their program does not take it", "Ask them what it says."),
            };
            self.large.end(id, &recipient);
            // Once: who refuses it for another reason tells nothing new.
            if self.sent.decide(&key, Fate::Refused, &mut self.pending)
                && self.set_state(conversation, &file, &recipient, State::Failed(reason.to_owned()), now).is_news()
            {
                told.push(format!("{file}: {reason}"));
                remedies.insert(remedy);
            }
            let waiting = self.spool.places_of(&recipient, &[(*conversation, *id)].into());
            self.let_go(recipient, &waiting, Because::Heard, now);
        }
        if !told.is_empty() {
            let name = self.people.name(&recipient);
            let count = told.len();
            told.truncate(REFUSED_NAMED_MAX);
            let more = if count > told.len() { format!("; and {} more", count - told.len()) } else { String::new() };
            let remedy = remedies.into_iter().collect::<Vec<_>>().join(" ");
            let text = format!("{name}'s program refused {}{more}.\n{remedy}", told.join("; "));
            alerts::raise(&self.root, &mut self.pending, now, "undeliverable", &recipient.short(8), &text);
        }
    }

    /// Notes that a message has failed. True if a person is to be told: whoever reads `.delivery/` does not know it, or cannot.
    fn fail(&mut self, key: &SentKey, file: &str, fate: Fate, reason: &str, now: Timestamp) -> bool {
        self.sent.decide(key, fate, &mut self.pending);
        self.set_state(&key.conversation, file, &key.recipient, State::Failed(reason.to_owned()), now).is_news()
    }

    /// Why somebody's server has not confirmed anything for so long.
    fn why_unconfirmed(&self, recipient: &Fingerprint) -> String {
        let period = humantime::format_duration(self.policy.retry_period);
        let reason = match (self.trouble.get(recipient), &self.connection) {
            (Some(trouble), _) => trouble.clone(),
            (None, Err(reason)) => format!("this machine is {reason}"),
            (None, Ok(())) => "it did not answer".to_owned(),
        };
        format!("their server did not confirm it within {period}: {reason}")
    }
}

#[cfg(test)]
mod tests;
