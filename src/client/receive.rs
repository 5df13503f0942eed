//! From an envelope of our mailbox to a file in a conversation (design, section 2, "Receiving").
//!
//! A session moves on only for a payload that is taken: the judgement below runs between authentication and commit, so
//! that an envelope that comes too early can be opened again later.

use std::cell::Cell;
use std::path::PathBuf;

use super::alerts;
use super::contacts::REQUEST_CARD;
use super::delivery::{self, Delivery};
use super::engine::Engine;
use super::judge::{Judged, Verdict, judge};
use super::parts_left::Left;
use super::prekeys::Found;
use super::received;
use super::requests;
use super::room::{self, Room};
use super::sessions::NotOpened;
use super::trials::{Hints, Tried};
use super::unopened::Kept;
use crate::clock::Timestamp;
use crate::envelope;
use crate::limits::REQUESTS_LEFT_MAX;
use crate::name;
use crate::ratchet::{self, Refused};
use crate::wire::conversation::ConversationRecord;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{ConversationId, Fingerprint, Identity};
use crate::wire::payload::{Introduction, Payload};
use crate::wire::reply::StoredEnvelope;

/// What became of an envelope.
pub(super) enum Became {
    /// It was taken, or can never be.
    Done,
    /// It may open later. How far it was tried.
    Kept(Tried),
    /// There is no room for it here: it stays at the server.
    Left,
    /// The same of a part of a large content.
    PartLeft(Left),
}

impl Engine {
    /// Handles an envelope from our mailbox. It is deleted there once what it became is on disk.
    pub(super) fn receive(&mut self, stored: StoredEnvelope, now: Timestamp) {
        let hash = stored.envelope.sha256();
        if self.received.contains(&hash) {
            self.deletions.push(stored.id);
            return;
        }
        if let Some(left) = self.parts_left.get(&hash).copied()
            && self.parts_left.came_again(&hash, self.still_waits(&left))
        {
            return;
        }
        match self.try_open(&stored.envelope, &[], Tried::None, now) {
            Became::Left => {
                self.left += 1;
                if self.left <= REQUESTS_LEFT_MAX {
                    return;
                }
                self.alert_strangers_given_up(now);
            }
            Became::PartLeft(left) => return self.parts_left.add(hash, left),
            Became::Done => {}
            Became::Kept(tried) => {
                let quiet_until = self.recovery.quiet_until();
                let kept = Kept { since: now.seconds(), hash, envelope: stored.envelope, tried };
                let given_up = self.unopened.keep(kept, quiet_until, &mut self.pending);
                self.alert_given_up(given_up, now);
            }
        }
        self.received.add(hash, now.seconds(), &mut self.pending);
        self.deletions.push(stored.id);
    }

    /// `added` and `tried` are as in [`Hints`].
    pub(super) fn try_open(
        &mut self,
        envelope: &Envelope,
        added: &[Fingerprint],
        tried: Tried,
        now: Timestamp,
    ) -> Became {
        let tag = envelope::tag(envelope);
        let hash = ratchet::opening_hash(&tag, &envelope::ephemeral(envelope));
        let prekey = match self.prekeys.find(&tag, &hash) {
            Found::Prekey(prekey) => Some(prekey),
            Found::Nothing => None,
            Found::Repeated => {
                tracing::warn!("an opening came again");
                return Became::Done;
            }
            Found::Taken => {
                self.alert_taken_prekey(now);
                return Became::Done;
            }
        };
        let opens = prekey.is_some();
        let room = Room {
            root: &self.root,
            pending: &self.pending,
            people: &self.people,
            conversations: &self.conversations,
            received: &self.received,
            arriving: &self.arriving,
            left: &self.parts_left,
            receive_limit: self.policy.receive_limit,
            opens,
            leaves: Cell::new(None),
        };
        let judge = |author: &Identity, payload: &[u8]| {
            let fingerprint = author.fingerprint();
            let has_room = |name: &str, payload: &Payload| room.in_request(&fingerprint, name, payload);
            let judged = judge(author, payload, &self.people, &self.conversations, opens, has_room);
            room.check(&fingerprint, judged)
        };
        let may_jump = |peer: &Fingerprint| room.is_somebody(peer) && !self.people.is_blocked(peer);
        let hints = Hints { added, tried, may_jump: &may_jump };
        let (keys, now_s) = (&self.account.keys, now.seconds());
        let judged = match prekey {
            Some(prekey) => self
                .sessions
                .accept(keys, prekey, envelope, now_s, &mut self.rng, judge)
                .map(|(judged, opened)| (judged, Some(opened))),
            None => self.sessions.open(keys, envelope, hints, now_s, &mut self.rng, judge).map(|judged| (judged, None)),
        };
        match judged {
            // Not left either, nor kept: a peer who jumps far ahead each time makes every look at them dear. An honest message
            // that far ahead is missing once others are here, and is asked for again.
            Err(NotOpened::TooFar { peer, may_jump }) => {
                match may_jump {
                    true => self.alert_too_far(&peer, now),
                    false if self.people.is_blocked(&peer) => {}
                    false => self.alert_strangers_given_up(now),
                }
                Became::Done
            }
            Err(NotOpened::NotNow(room::LEFT)) => match room.leaves.take() {
                Some(left) => Became::PartLeft(left),
                None => Became::Left,
            },
            Ok((Judged { author, verdict }, opened)) => {
                if let Some(opened) = opened {
                    self.used_prekey(&tag, hash);
                    let tells_why = matches!(&verdict, Verdict::Control(control) if control.lost_since.is_some());
                    self.opened(&author, &opened, tells_why, now);
                }
                self.carry_out(author, verdict, now);
                Became::Done
            }
            Err(NotOpened::Refused(Refused::AlreadyUsed)) => {
                tracing::warn!("an opening came a second time");
                Became::Done
            }
            Err(NotOpened::Repeated(peer)) => {
                self.alert_repeated(&peer, now);
                Became::Done
            }
            // Not kept, to be tried again and again: a peer who jumps far ahead each time makes that dear.
            Err(NotOpened::Damaged(peer)) => {
                self.alert_damaged(&peer, now);
                Became::Done
            }
            Err(NotOpened::NotNow(requests::NO_ROOM)) => Became::Left,
            Err(NotOpened::NoSession(tried)) => Became::Kept(tried),
            Err(reason) => {
                tracing::info!(%reason, "an envelope is kept for later");
                // Its session is known: there is nothing to try.
                Became::Kept(Tried::All)
            }
        }
    }

    fn carry_out(&mut self, author: Fingerprint, verdict: Verdict, now: Timestamp) {
        let is_heard = !matches!(verdict, Verdict::Ignored | Verdict::Unseen(_));
        match verdict {
            Verdict::Message(payload) => {
                let introduced_by_contact = payload.introduction.is_some() && self.people.is_contact(&author);
                let waits = self.conversations.get(&payload.conversation).is_some_and(|record| !record.accepted);
                if introduced_by_contact && waits {
                    self.accept_conversation(&payload.conversation, &author, now);
                }
                self.heed_profiles(&author, &payload, now);
                self.place_message(author, payload, now);
            }
            Verdict::Opens { payload, introduction, accepted } => {
                // Before the introduction makes them known: what is newer than a contact's card is kept beside it.
                self.heed_introduced(&author, &introduction.profiles, &payload.conversation);
                self.add_conversation(&author, &payload, introduction, accepted, now);
                self.heed_profiles(&author, &payload, now);
                if !accepted {
                    self.notice_namesake(&author, now);
                }
                self.place_message(author, payload, now);
                self.parts_left.note_room();
                self.try_unopened = true;
            }
            Verdict::Control(control) => self.heed(author, control, now),
            Verdict::Ignored => {}
            Verdict::Unseen(payload) => self.enter_unseen(&author, &payload, now),
            Verdict::Discarded(problem) => {
                let name = self.people.name(&author);
                let text = format!(
                    "A message from {name} was discarded: {problem}.\n\
                     Their program may be faulty or hostile; ask them about it."
                );
                let about = author.short(8);
                alerts::raise(&self.root, &mut self.pending, now, "discarded", &about, &text);
            }
        }
        // Behind that: the first acknowledgement of somebody is a word of theirs as well, and may be the last for long.
        if is_heard {
            self.acknowledging.note_heard(author, now);
        }
    }

    fn alert_strangers_given_up(&mut self, now: Timestamp) {
        let text = "Strangers wrote more than requests/ holds, and some of it was given up.\n\
                    Decide about the requests that are there, or remove them.";
        alerts::raise(&self.root, &mut self.pending, now, "requests", "", text);
    }

    fn alert_too_far(&mut self, peer: &Fingerprint, now: Timestamp) {
        let text = format!(
            "An envelope from {} came too far ahead of others of theirs that are not here, and was given up.\n\
             If somebody says that you did not get their message, ask them to send it again.",
            self.people.name(peer)
        );
        alerts::raise(&self.root, &mut self.pending, now, "unopened", "", &text);
    }

    fn alert_damaged(&mut self, peer: &Fingerprint, now: Timestamp) {
        if self.people.is_blocked(peer) {
            return;
        }
        let name = self.people.name(peer);
        let text = format!(
            "An envelope of a session with {name} was damaged or forged on its way, or sealed by an old copy of their program, and was dropped.\n\
             If {name} says that you did not get a message, ask them to send it again."
        );
        alerts::raise(&self.root, &mut self.pending, now, "damaged", &peer.short(8), &text);
    }

    fn add_conversation(
        &mut self,
        author: &Fingerprint,
        payload: &Payload,
        introduction: Introduction,
        accepted: bool,
        now: Timestamp,
    ) {
        introduction.profiles.iter().for_each(|profile| self.people.introduce(profile));
        let participants: Vec<Fingerprint> =
            introduction.profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
        let created = introduction.created.min(now);
        let id = payload.conversation;
        let standing = self.standing_directory(&id);
        let directory = standing
            .clone()
            .unwrap_or_else(|| self.free_directory(&id, author, &participants, &introduction.subject, created));
        let record = ConversationRecord {
            id,
            salt: introduction.salt,
            subject: introduction.subject,
            created,
            profiles: introduction.profiles,
            directory,
            accepted,
            incarnation: self.random_16(),
            counter: 0,
            last_time: Timestamp::default(),
            introduced: [self.people.own_fingerprint()].into(),
            behind: false,
        };
        self.conversations.add(record);
        if accepted {
            self.make_directories(&id, standing.is_some());
        }
        self.notice_other_list(&id, author, now);
    }

    /// Makes the directories of a conversation that was added; only the twin in `outbox/` where the other one stands.
    pub(super) fn make_directories(&mut self, id: &ConversationId, stands: bool) {
        match stands {
            true => self.conversations.make_outbox_directory(&self.root, id, &self.people, &mut self.pending),
            false => self.conversations.make_directories(id, &self.people, &mut self.pending),
        }
    }

    /// Makes the message appear, or takes a part of it.
    fn place_message(&mut self, author: Fingerprint, payload: Payload, now: Timestamp) {
        match payload.part {
            None => drop(self.stand(author, payload, None, now)),
            Some(_) => self.take_part(author, payload, now),
        }
    }

    /// Makes the message appear: in its conversation, or in its author's request. A large content stands in a file of its own,
    /// `moved`, and moves. False if it does not appear.
    pub(super) fn stand(
        &mut self,
        author: Fingerprint,
        payload: Payload,
        moved: Option<PathBuf>,
        now: Timestamp,
    ) -> bool {
        let Some(shared) = payload.shared(author) else { return false };
        let accepted = self.conversations.get(&payload.conversation).is_some_and(|record| record.accepted);
        let place = match accepted {
            true => self.conversations.place(&self.root, &payload.conversation, &self.people, &mut self.pending),
            false => self.request_place(&author),
        };
        let Some(place) = place else { return false };
        let hash = received::message_hash(&author, &payload.conversation, &payload.id);
        if payload.resent > 0 {
            self.recall(&payload.conversation, &place);
        }
        let transcript = payload.transcript.clone().unwrap_or_default();
        if self.heed_same_id(&shared, &transcript, now) {
            return false;
        }
        let transcript_hash = transcript.hash(&shared);
        // Also of one that was here: our state may have been lost since.
        let time = self.enter_transcript(&shared, &transcript, now);
        // Also for what was sent again, in another envelope: its author may not have heard that it was here.
        self.owe_acknowledgement(author, &payload.conversation, payload.id, now);
        if self.received.has_message(&hash) {
            return false;
        }
        let Some(content) = payload.content else { return false };
        self.received.add_message(&hash, &transcript_hash, now.seconds(), &mut self.pending);
        let author_name = self.people.name(&author);
        let wanted = name::message(&time.to_string(), &author_name, &content.file_name);
        let file = self.free_message_name(&place, &wanted, &payload.id);
        let delivery = Delivery {
            id: payload.id,
            from: author,
            from_name: author_name,
            counter: payload.counter,
            file: file.clone(),
            outbox: None,
            conversation: (!accepted).then_some(payload.conversation),
            recipients: Vec::new(),
        };
        match moved {
            None => self.pending.place(place.join(&file), content.bytes),
            Some(from) => self.pending.move_in(place.join(&file), from),
        }
        self.deliveries.insert(place.join(delivery::DIRECTORY).join(&file), delivery);
        true
    }

    /// The directory of a stranger's request, with their card in it. None where none can be made.
    fn request_place(&mut self, author: &Fingerprint) -> Option<PathBuf> {
        let place = requests::place(&self.root, &self.pending, &self.people.name(author))?;
        let card = place.join(REQUEST_CARD);
        if !self.pending.is_reserved(&place)
            && self.pending.is_free(&self.root, &card)
            && let Some(profile) = self.people.profile(author)
        {
            self.pending.make_directory(place.clone());
            self.pending.put(card, format!("{profile}\n"));
        }
        Some(place)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::limits::CONTENT_BYTES_MAX;
    use crate::wire::identity::{MessageId, participants_hash};
    use crate::wire::part::Part;
    use crate::wire::payload::Content;
    use crate::wire::transcript::Transcript;

    impl Bench {
        /// What alice writes, in one envelope.
        pub(in crate::client) fn message(&self, id: u8, counter: u64, content: &[u8]) -> Payload {
            Payload {
                id: MessageId([id; 16]),
                conversation: self.conversation.id,
                participants: participants_hash(&self.conversation.participants()),
                time: self.now,
                incarnation: [3; 16],
                counter,
                introduction: None,
                profile: None,
                resent: 0,
                transcript: Some(Transcript::default()),
                part: None,
                content: Some(Content { file_name: Vec::new(), bytes: Zeroizing::new(content.to_vec()) }),
            }
        }
    }

    #[test]
    fn any_number_of_messages_of_one_time_and_conversations_of_one_name_are_named_in_a_few_tries() {
        let mut bob = Bench::new();
        let author = bob.alice;
        for number in 0..40 {
            bob.engine.stand(author, bob.message(number, 1, &[number]), None, bob.now);
            if number % 3 == 0 {
                bob.settle();
            }
        }
        bob.settle();
        let name = |number: u8| match number {
            0 => format!("{}-alice", bob.now),
            1..16 => format!("{}-alice-{}", bob.now, number + 1),
            _ => format!("{}-alice-{}", bob.now, format!("{number:02x}").repeat(4)),
        };
        let mut expected: Vec<_> = (0..40).map(|number| (name(number), vec![number])).collect();
        let mut messages = bob.messages();
        expected.sort();
        messages.sort();
        assert_eq!(messages, expected);

        let participants = bob.conversation.participants();
        let directory = |number: u8| {
            let id = ConversationId([number; 16]);
            let name = bob.engine.free_directory(&id, &author, &participants, "one", bob.now);
            bob.engine.pending.make_directory(std::path::Path::new("conversations").join(&name));
            name
        };
        let names: Vec<String> = (0..20).map(directory).collect();
        assert!(names[0].ends_with("_one") && names[15].ends_with("_one-16"), "{names:?}");
        assert!(names[16].ends_with("_one-10101010") && names[19].ends_with("_one-13131313"), "{names:?}");
    }

    #[test]
    fn another_message_under_a_known_id_is_told_and_neither_entered_nor_acknowledged_in_one_piece_or_in_parts() {
        let mut bob = Bench::new();
        let (author, place) = (bob.alice, (bob.conversation.id, bob.alice));
        let in_parts = |payload: Payload| {
            let (size, sha256) = (CONTENT_BYTES_MAX as u64 + 1, [9; 32]);
            Payload { part: Some(Part { number: 0, size, sha256 }), ..payload }
        };
        let take = |bob: &mut Bench, payload: Payload| {
            bob.engine.place_message(author, payload, bob.now);
            bob.settle();
            let highest = bob.engine.transcripts.get(&place).unwrap().incarnations[0].highest;
            (bob.messages().len(), bob.engine.acknowledging.take_owed(&author).len(), highest, bob.alerts().len())
        };
        let first = bob.message(1, 1, b"yes");
        let (other, alike, mut behind) =
            (bob.message(1, 2, b"no"), bob.message(1, 1, b"no"), bob.message(2, 2, b"honest"));
        behind.transcript =
            first.transcript_hash(author).map(|previous| Transcript { previous, ..Transcript::default() });
        assert_eq!(take(&mut bob, first.clone()), (1, 1, 1, 0));
        assert_eq!(take(&mut bob, Payload { resent: 1, ..first.clone() }), (1, 1, 1, 0), "the same");
        bob.restart();
        assert_eq!(take(&mut bob, first.clone()), (1, 1, 1, 0), "the same");
        assert_eq!(take(&mut bob, other.clone()), (1, 0, 1, 1));
        assert_eq!(take(&mut bob, in_parts(other)), (1, 0, 1, 1));
        assert_eq!(take(&mut bob, alike), (1, 0, 1, 1), "and with the same count");
        let text = &bob.alerts()[0];
        assert!(
            text.starts_with("alice sent two different messages under one id in with-alice: their number 2"),
            "{text}"
        );
        assert_eq!(take(&mut bob, behind), (2, 1, 2, 1));
    }
}
