//! Payloads with what those of the session lack, an updated profile, and notes between two programs.

use chatterbox::clock::Timestamp;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::control::{Control, Rank};
use chatterbox::wire::identity::{ConversationId, MessageId};
use chatterbox::wire::payload::{Content, Introduction, Payload, Plaintext};
use chatterbox::wire::profile::{Profile, SignedProfile};

use super::file::{Part, Vectors};
use super::identity::account;

pub fn payloads(vectors: &Vectors) {
    let group = vectors.part("payloads");
    let update = updated_profile(vectors, &group);
    introduction_ahead(&group.part("introduction_ahead"));
    resent(&group.part("resent"), &update);
    notes(&group, &update);
}

/// The author's own profile, after a change of the home server.
fn updated_profile(vectors: &Vectors, group: &Part<'_>) -> SignedProfile {
    let (author, updated) = (group.text("author"), group.part("updated_profile"));
    let first: SignedProfile = vectors.part("identities").part(author).text("card").parse().unwrap();
    let port = updated.number("port").try_into().unwrap();
    let server = ServerAddress::new(updated.text("host"), port, *first.profile().server.key()).unwrap();
    let profile = Profile { server, version: updated.number("version"), ..first.profile().clone() };
    let signed = SignedProfile::sign(profile, &account(vectors, author).signing).unwrap();
    updated.is("signed_profile", signed.as_bytes());
    signed
}

fn introduction_ahead(part: &Part<'_>) {
    let profiles = part.part("profiles");
    let profile = |at: &Part<'_>| SignedProfile::from_bytes(&profiles.bytes(at.name())).unwrap();
    let introduction = Introduction {
        subject: part.text("subject").to_owned(),
        created: Timestamp::from_micros(part.number("created")),
        profiles: profiles.parts().iter().map(profile).collect(),
        salt: Some(part.array("salt")),
    };
    is_message(part, Payload { introduction: Some(introduction), ..common(part) });
}

fn resent(part: &Part<'_>, update: &SignedProfile) {
    part.is("profile", update.as_bytes());
    let content = Content { file_name: part.bytes("file_name"), bytes: part.bytes("bytes").into() };
    let payload = Payload {
        profile: Some(update.clone()),
        resent: part.number("resent").try_into().unwrap(),
        transcript: None,
        part: None,
        content: Some(content),
        ..common(part)
    };
    is_message(part, payload);
}

/// What stands in every message.
fn common(part: &Part<'_>) -> Payload {
    Payload {
        id: MessageId(part.array("id")),
        conversation: ConversationId(part.array("conversation")),
        participants: part.array("participants"),
        time: Timestamp::from_micros(part.number("time")),
        incarnation: part.array("incarnation"),
        counter: part.number("counter"),
        introduction: None,
        profile: None,
        resent: 0,
        transcript: None,
        part: None,
        content: None,
    }
}

fn is_message(part: &Part<'_>, payload: Payload) {
    part.is("payload", payload.to_bytes());
    assert!(Plaintext::from_bytes(&part.bytes("payload")) == Ok(Plaintext::Message(payload)));
}

fn notes(group: &Part<'_>, update: &SignedProfile) {
    let (lost, everything, highest) = (group.part("lost"), group.part("lost_everything"), group.part("highest"));
    lost.is("profile", update.as_bytes());
    let since = |part: &Part<'_>| Some(part.number("since"));
    is_note(&lost, Control { lost_since: since(&lost), profile: Some(update.clone()), ..Control::default() });
    is_note(&everything, Control { lost_since: since(&everything), ..Control::default() });
    let rank = Rank { generation: highest.number("generation"), opening: highest.array("opening") };
    is_note(&highest, Control { highest: Some(rank), ..Control::default() });
}

fn is_note(part: &Part<'_>, control: Control) {
    part.is("payload", control.to_bytes());
    assert!(Plaintext::from_bytes(&part.bytes("payload")) == Ok(Plaintext::Control(control)));
}
