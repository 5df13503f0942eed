//! What a payload is allowed to do, once its author is certain: the judgement between authentication and commit.

use std::collections::HashSet;

use super::conversation::Conversations;
use super::people::People;
use super::requests;
use super::sessions::{NotOpened, Taken};
use crate::wire::control::{Control, Rank};
use crate::wire::identity::{ConversationId, Fingerprint, Identity, participants_hash};
use crate::wire::payload::{Introduction, Payload, Plaintext};
use crate::wire::profile::SignedProfile;

/// A payload whose author is certain, and what is to be done with it.
pub(super) struct Judged {
    pub(super) author: Fingerprint,
    pub(super) verdict: Verdict,
}

/// What is to be done with it.
pub(super) enum Verdict {
    /// A message of a conversation that we know.
    Message(Payload),
    /// One that opens a conversation.
    Opens { payload: Payload, introduction: Introduction, accepted: bool },
    /// A note from the author's program to ours.
    Control(Control),
    /// Not to be believed: its key is used up, and a person hears of it.
    Discarded(&'static str),
    /// The same from a stranger, or anything from somebody who is blocked: nobody hears of it.
    Ignored,
    /// A message of somebody who is blocked, in a conversation that may be theirs: it is dropped, and is not missing.
    Unseen(Payload),
}

impl Taken for Judged {
    fn written_s(&self) -> Option<u64> {
        match &self.verdict {
            Verdict::Message(payload) | Verdict::Opens { payload, .. } => Some(payload.time.seconds()),
            Verdict::Control(_) | Verdict::Discarded(_) | Verdict::Ignored | Verdict::Unseen(_) => None,
        }
    }

    fn names(&self) -> Option<Rank> {
        match &self.verdict {
            Verdict::Control(control) => control.highest,
            _ => None,
        }
    }
}

/// Decides on a payload whose author is certain.
pub(super) fn judge(
    author: &Identity,
    payload: &[u8],
    people: &People,
    conversations: &Conversations,
    opens: bool,
    has_room: impl FnOnce(&str, &Payload) -> bool,
) -> Result<Judged, NotOpened> {
    let author = author.fingerprint();
    if author == people.own_fingerprint() {
        return Err(NotOpened::NotNow("it claims to be from ourselves"));
    }
    if people.is_blocked(&author) {
        // Taken like any other, so that its session goes on and it is gone from our server, and nothing comes of it.
        let verdict = unseen(&author, payload, conversations).map_or(Verdict::Ignored, Verdict::Unseen);
        return Ok(Judged { author, verdict });
    }
    // Looked up only where something is wrong: it takes a look at every conversation.
    let known = || people.is_contact(&author) || conversations.has_accepted(&author);
    let judged = |verdict| match verdict {
        // A stranger gets no session and no alert for what is discarded: they could make any number of both.
        Verdict::Discarded(problem) if !known() && opens => Err(NotOpened::NotNow(problem)),
        Verdict::Discarded(_) if !known() => Ok(Judged { author, verdict: Verdict::Ignored }),
        verdict => Ok(Judged { author, verdict }),
    };
    let mut payload = match Plaintext::from_bytes(payload) {
        Ok(Plaintext::Message(payload)) => payload,
        // Nothing automatic is done for somebody who is neither contact nor member of a conversation of ours.
        Ok(Plaintext::Control(_)) if !known() && opens => return Err(NotOpened::NotNow("it is a stranger's note")),
        Ok(Plaintext::Control(_)) if !known() => return judged(Verdict::Ignored),
        Ok(Plaintext::Control(control)) => return judged(Verdict::Control(control)),
        Err(_) => return judged(Verdict::Discarded("it cannot be understood")),
    };
    if let Some(record) = conversations.get(&payload.conversation) {
        if !record.has(&author) {
            return judged(Verdict::Discarded("its author takes no part in the conversation"));
        }
        if record.participants_hash() != payload.participants {
            return judged(Verdict::Discarded("it names other participants than the conversation has"));
        }
        if !record.accepted && !people.is_contact(&author) && !has_room(&people.name(&author), &payload) {
            return Err(NotOpened::NotNow(requests::NO_ROOM));
        }
        return judged(Verdict::Message(payload));
    }
    let accepted = people.is_contact(&author);
    let introduction = match payload.introduction.take() {
        Some(introduction) => introduction,
        None => match implied(&author, &payload, people) {
            Some(introduction) => introduction,
            None if accepted && payload.part.is_some() => return Err(NotOpened::Early(payload.conversation)),
            None if !accepted => return judged(Verdict::Discarded("its conversation was not introduced")),
            None => return Err(NotOpened::NotNow("its conversation was not introduced yet")),
        },
    };
    if let Some(problem) = contradiction(&author, &payload, &introduction, people) {
        return judged(Verdict::Discarded(problem));
    }
    let profile = introduction.profiles.iter().find(|profile| profile.identity().fingerprint() == author);
    if !accepted && !has_room(&profile.map_or_else(String::new, |profile| people.name_of(profile)), &payload) {
        return Err(NotOpened::NotNow(requests::NO_ROOM));
    }
    judged(Verdict::Opens { payload, introduction, accepted })
}

/// A message that has a place in the transcript of a conversation of its author. Also of one that we do not know yet: a member
/// who is not blocked may tell us of it, or its author once they are not.
fn unseen(author: &Fingerprint, payload: &[u8], conversations: &Conversations) -> Option<Payload> {
    let Ok(Plaintext::Message(payload)) = Plaintext::from_bytes(payload) else { return None };
    let has_place = payload.part.is_none_or(|part| part.number == 0);
    let record = conversations.get(&payload.conversation);
    let is_theirs =
        record.is_none_or(|record| record.has(author) && record.participants_hash() == payload.participants);
    (has_place && is_theirs).then_some(payload)
}

/// The conversation between just us two needs no introduction by somebody whose profile we have.
fn implied(author: &Fingerprint, payload: &Payload, people: &People) -> Option<Introduction> {
    let both = [people.own_fingerprint(), *author];
    if payload.conversation != ConversationId::of_participants(&both) {
        return None;
    }
    let profiles: Vec<SignedProfile> = vec![people.own().clone(), people.profile(author)?.clone()];
    Some(Introduction { subject: String::new(), created: payload.time, profiles, salt: None })
}

/// What is wrong with an introduction.
fn contradiction(
    author: &Fingerprint,
    payload: &Payload,
    introduction: &Introduction,
    people: &People,
) -> Option<&'static str> {
    let fingerprints: Vec<Fingerprint> =
        introduction.profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
    let distinct: HashSet<&Fingerprint> = fingerprints.iter().collect();
    if distinct.len() != fingerprints.len() {
        return Some("its introduction names somebody twice");
    }
    if !distinct.contains(author) {
        return Some("its author takes no part in the conversation");
    }
    if !distinct.contains(&people.own_fingerprint()) {
        return Some("we take no part in its conversation");
    }
    if participants_hash(&fingerprints) != payload.participants {
        return Some("its introduction names other participants than it says");
    }
    if payload.conversation != ConversationId::of(introduction.salt.as_ref(), &fingerprints) {
        return Some("its conversation's id belongs to other participants");
    }
    None
}
