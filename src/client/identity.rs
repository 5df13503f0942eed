//! Profiles that travel with messages, and identities that are not what they were (design, section 3): an update keeps
//! both keys and raises the version, and whatever else comes under a known name is told to a person.

use std::borrow::Cow;
use std::path::Path;

use super::alerts;
use super::contacts::Contact;
use super::engine::Engine;
use super::known::Renewed;
use crate::clock::Timestamp;
use crate::envelope::PAYLOAD_BYTES_MAX;
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::payload::Payload;
use crate::wire::profile::SignedProfile;

/// The kind of all alerts here.
const KIND: &str = "identity";

impl Engine {
    /// A message with our own profile in it, if the recipient may not have this version yet and it fits; then they count
    /// as told. What is recorded arrives, or its recipient says that they have lost state.
    pub(super) fn with_news<'a>(&mut self, recipient: &Fingerprint, payload: &'a Payload) -> Cow<'a, Payload> {
        let own = self.people.own();
        let version = own.profile().version;
        if self.known.told(recipient) >= version {
            return Cow::Borrowed(payload);
        }
        let news = Payload { profile: Some(own.clone()), ..payload.clone() };
        if news.to_bytes().len() > PAYLOAD_BYTES_MAX {
            return Cow::Borrowed(payload);
        }
        self.known.tell(recipient, version);
        Cow::Owned(news)
    }

    /// An introduction is on its way to somebody, and our profile in it.
    pub(super) fn tell_by(&mut self, recipient: &Fingerprint, introduced: &[SignedProfile]) {
        let own = self.people.own_fingerprint();
        for profile in introduced.iter().filter(|profile| profile.identity().fingerprint() == own) {
            self.known.tell(recipient, profile.profile().version);
        }
    }

    /// Heeds the profiles in a message that say where its author is now: the one that was put there for that, and their
    /// own in an introduction, which may be of a conversation that we know.
    pub(super) fn heed_profiles(&mut self, author: &Fingerprint, payload: &Payload, now: Timestamp) {
        let introduced = payload.introduction.as_ref().map_or(&[][..], |introduction| &introduction.profiles);
        self.heed_introduced(author, introduced, &payload.conversation);
        if let Some(profile) = &payload.profile {
            self.heed_profile(author, profile, Some(&payload.conversation), now);
        }
    }

    /// The same for an introduction alone.
    pub(super) fn heed_introduced(
        &mut self,
        author: &Fingerprint,
        introduced: &[SignedProfile],
        conversation: &ConversationId,
    ) {
        for profile in introduced.iter().filter(|profile| profile.identity().fingerprint() == *author) {
            self.keep_newer(author, profile, Some(conversation));
        }
    }

    /// Heeds a profile that came as its author's own, in a message of a conversation or in a note. Its signature was
    /// checked when it was parsed; it must be of the very same keys as well.
    pub(super) fn heed_profile(
        &mut self,
        author: &Fingerprint,
        profile: &SignedProfile,
        conversation: Option<&ConversationId>,
        now: Timestamp,
    ) {
        let named = profile.identity().fingerprint();
        if named == *author {
            self.keep_newer(author, profile, conversation);
        } else if self.is_known(author) {
            let name = self.people.name(author);
            let text = format!(
                "{name} sent a profile of another identity as their own: fingerprint {}, and theirs is {}.\n\
                 It was not taken; their message was. Ask them about it, and before you trust another card of theirs, \
                 compare keys with `chatterbox verify`.",
                named.groups(),
                author.groups(),
            );
            alerts::raise(&self.root, &mut self.pending, now, KIND, &author.short(8), &text);
        }
    }

    /// Keeps a profile that is newer than what we have of its owner. What a stranger says of themself stays in the
    /// conversation that waits.
    fn keep_newer(&mut self, owner: &Fingerprint, profile: &SignedProfile, conversation: Option<&ConversationId>) {
        let best = self.people.owners_version(owner);
        if best.is_some_and(|best| best >= profile.profile().version) {
            return;
        }
        let kept = match self.is_known(owner) {
            true => self.known.keep(profile, self.people.is_contact(owner)),
            false => conversation.is_some_and(|id| self.conversations.renew_profile(id, profile)),
        };
        if kept {
            tracing::info!(version = profile.profile().version, "a newer profile of somebody is kept");
            self.people.renew(profile);
            // Their courier goes where they are now.
            self.profiles_changed = true;
        }
    }

    /// Whether somebody is a contact or takes part in a conversation of ours, and is not blocked.
    pub(super) fn is_known(&self, fingerprint: &Fingerprint) -> bool {
        let is_one = self.people.is_contact(fingerprint) || self.conversations.has_accepted(fingerprint);
        is_one && !self.people.is_blocked(fingerprint)
    }

    /// Compares the contacts with who was last seen under their names, before a restart too.
    pub(super) fn look_at_names(&mut self, now: Timestamp) {
        for renewed in self.known.see(self.people.contacts()) {
            let Renewed { name, before, now: other } = renewed;
            let text = format!(
                "The card of {name} is another identity's now: fingerprint {}, and it was {}.\n\
                 If you did not replace it yourself, find out who did. Write nothing to {name} until you have compared \
                 keys with `chatterbox verify {name}`.",
                other.groups(),
                before.groups(),
            );
            alerts::raise(&self.root, &mut self.pending, now, KIND, &other.short(8), &text);
        }
    }

    /// A stranger's request is about to appear: do they call themself as a contact does, or is called here? Anybody can;
    /// it may also be the contact, with new keys.
    pub(super) fn notice_namesake(&mut self, stranger: &Fingerprint, now: Timestamp) {
        let request = self.people.name(stranger);
        if !self.pending.is_free(&self.root, &Path::new("requests").join(&request)) {
            return;
        }
        let Some(profile) = self.people.profile(stranger) else { return };
        let called = profile.profile().name.clone();
        let is_namesake = |contact: &&Contact| {
            let fingerprint = contact.profile.identity().fingerprint();
            let newest = self.people.profile(&fingerprint).unwrap_or(&contact.profile);
            contact.name.to_lowercase() == called
                || [&contact.profile, newest].iter().any(|known| known.profile().name == called)
        };
        let Some(contact) = self.people.contacts().iter().find(is_namesake) else { return };
        let (name, theirs) = (&contact.name, contact.profile.identity().fingerprint());
        let text = format!(
            "Somebody wrote to you who calls themself {called} and has other keys than your contact {name}: \
             fingerprint {}, and {name}'s is {}.\n\
             It waits in requests/{request}. If {name} may have new keys, ask them by another way than this one, and \
             compare keys with `chatterbox verify {request}`; otherwise remove the request.",
            stranger.groups(),
            theirs.groups(),
        );
        // Told apart by the contact: strangers are as many as somebody likes to make.
        alerts::raise(&self.root, &mut self.pending, now, KIND, &theirs.short(8), &text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::super::policy::Policy;
    use super::super::root::Root;
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::limits::{
        CONTENT_BYTES_MAX, FILE_NAME_BYTES_MAX, HOST_BYTES_MAX, LARGE_CONTENT_BYTES_MAX, PART_BYTES, PARTICIPANTS_MAX,
        PROFILE_BYTES_MAX,
    };
    use crate::net::dialer::Way;
    use crate::wire::address::ServerAddress;
    use crate::wire::identity::MessageId;
    use crate::wire::part::Part;
    use crate::wire::payload::{Content, Introduction};
    use crate::wire::transcript::{Seen, Transcript};
    use rand_core::OsRng;
    use zeroize::Zeroizing;

    /// An account whose profile is as long as one can be, of the second version.
    fn engine(directory: &Path) -> Engine {
        let root = Root::new(directory.join("root"));
        let host = "h".repeat(HOST_BYTES_MAX);
        let server = ServerAddress::new(&host, u16::MAX, SecretKey::random(&mut OsRng).public()).unwrap();
        Account::create(&root, &"n".repeat(64), server, "", &mut OsRng).unwrap();
        Account::renew(&root, None).unwrap();
        Engine::load(root, Policy::by_default(&Way::Direct)).unwrap()
    }

    fn largest_message() -> Payload {
        let bytes = Zeroizing::new(vec![1; CONTENT_BYTES_MAX]);
        Payload {
            id: MessageId([1; 16]),
            conversation: ConversationId([2; 16]),
            participants: [3; 32],
            time: Timestamp::from_micros(u64::MAX),
            incarnation: [4; 16],
            counter: u64::MAX,
            introduction: None,
            profile: None,
            resent: u32::MAX,
            transcript: Some(Transcript { previous: [5; 32], seen: (0..19).map(seen).collect() }),
            part: None,
            content: Some(Content { file_name: vec![b'f'; FILE_NAME_BYTES_MAX], bytes }),
        }
    }

    fn seen(participant: u8) -> Seen {
        Seen { participant, incarnation: [6; 16], counter: u64::MAX, hash: [7; 32] }
    }

    /// The first of a content that is as large as can be.
    fn largest_first_part() -> Payload {
        let bytes = Zeroizing::new(vec![1; usize::try_from(PART_BYTES).unwrap()]);
        let part = Part { number: 0, size: LARGE_CONTENT_BYTES_MAX, sha256: [8; 32] };
        let whole = largest_message();
        let content = whole.content.map(|content| Content { bytes, ..content });
        Payload { part: Some(part), content, ..whole }
    }

    #[test]
    fn the_largest_message_has_room_for_our_profile_and_carries_it_once_to_each() {
        let scratch = tempfile::tempdir().unwrap();
        let mut engine = engine(scratch.path());
        let (whole, part) = (largest_message(), largest_first_part());
        for (peer, payload) in
            [(Fingerprint([7; 32]), &whole), (Fingerprint([8; 32]), &whole), (Fingerprint([9; 32]), &part)]
        {
            let news = engine.with_news(&peer, payload).into_owned();
            assert_eq!(news.profile.as_ref(), Some(engine.people.own()));
            let own = engine.people.own().as_bytes().len();
            // Where others write longer profiles than we do, there is room for those too.
            assert!(news.to_bytes().len() + PROFILE_BYTES_MAX - own <= PAYLOAD_BYTES_MAX);
            assert!(engine.with_news(&peer, payload).profile.is_none(), "they are told");
        }
    }

    #[test]
    fn what_is_nearly_full_goes_without_our_profile_and_the_next_carries_it() {
        let scratch = tempfile::tempdir().unwrap();
        let mut engine = engine(scratch.path());
        let peer = Fingerprint([7; 32]);
        let mut full = largest_message();
        full.introduction = Some(Introduction {
            subject: String::new(),
            created: Timestamp::default(),
            profiles: vec![engine.people.own().clone(); PARTICIPANTS_MAX],
            salt: None,
        });
        assert!(engine.with_news(&peer, &full).profile.is_none());
        assert!(engine.with_news(&peer, &largest_message()).profile.is_some());
    }

    #[test]
    fn an_introduction_with_our_present_profile_tells_it() {
        let scratch = tempfile::tempdir().unwrap();
        let mut engine = engine(scratch.path());
        let (one, other) = (Fingerprint([7; 32]), Fingerprint([8; 32]));
        let own = engine.people.own().clone();
        engine.tell_by(&one, &[own]);
        engine.tell_by(&other, &[]);
        assert!(engine.with_news(&one, &largest_message()).profile.is_none());
        assert!(engine.with_news(&other, &largest_message()).profile.is_some());
    }
}
