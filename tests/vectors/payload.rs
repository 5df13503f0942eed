//! Payloads with what those of the session lack, an updated profile, and notes between two programs.

use chatterbox::clock::Timestamp;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::control::{Control, Messages, Missing, Rank, Refused, RefusedReason};
use chatterbox::wire::identity::{ConversationId, MessageId};
use chatterbox::wire::part::Part as PartOf;
use chatterbox::wire::payload::{Content, Introduction, Payload, Plaintext};
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::transcript::{NOTHING_BEFORE, Seen, Transcript};

use super::file::{Part, Vectors};
use super::identity::account;

pub fn payloads(vectors: &Vectors) {
    transcripts(vectors);
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

/// A first message, one behind it, and the first part of a large content.
fn transcripts(vectors: &Vectors) {
    let group = vectors.part("transcripts");
    let author = account(vectors, group.text("author")).identity().fingerprint();
    let mut before = NOTHING_BEFORE;
    for name in ["first", "second", "first_part"] {
        let message = group.part(name);
        let seen = message.part("seen").parts().into_iter().map(|seen| Seen {
            participant: seen.number("participant").try_into().unwrap(),
            incarnation: seen.array("incarnation"),
            counter: seen.number("counter"),
            hash: seen.array("hash"),
        });
        message.is("previous", before);
        let whole = message.has("part").then(|| message.part("part"));
        let part = whole.map(|part| PartOf {
            number: part.number("number").try_into().unwrap(),
            size: part.number("size"),
            sha256: part.array("sha256"),
        });
        // What the bytes of a part are says its payload.
        let sent = message.bytes("payload_base64");
        let Ok(Plaintext::Message(parsed)) = Plaintext::from_bytes(&sent) else { panic!("{name}") };
        let bytes = match part {
            Some(_) => parsed.content.as_ref().unwrap().bytes.clone(),
            None => message.bytes("bytes").into(),
        };
        let payload = Payload {
            transcript: Some(Transcript { previous: before, seen: seen.collect() }),
            part,
            content: Some(Content { file_name: message.bytes("file_name"), bytes }),
            ..common(&message)
        };
        assert_eq!(payload.to_bytes()[..], sent[..], "{name}");
        assert!(parsed == payload);
        before = payload.transcript_hash(author).unwrap();
        message.is("hash", before);
    }
}

fn notes(group: &Part<'_>, update: &SignedProfile) {
    message_notes(group);
    let (lost, everything, highest) = (group.part("lost"), group.part("lost_everything"), group.part("highest"));
    lost.is("profile", update.as_bytes());
    let since = |part: &Part<'_>| Some(part.number("since"));
    is_note(&lost, Control { lost_since: since(&lost), profile: Some(update.clone()), ..Control::default() });
    is_note(&everything, Control { lost_since: since(&everything), ..Control::default() });
    let rank = Rank { generation: highest.number("generation"), opening: highest.array("opening") };
    is_note(&highest, Control { highest: Some(rank), ..Control::default() });
}

/// Notes about messages.
fn message_notes(group: &Part<'_>) {
    let conversation = |part: &Part<'_>| ConversationId(part.array("conversation"));
    let lists = |part: &Part<'_>| {
        let all = part.part("messages").parts();
        let list = |part: &Part<'_>| Messages {
            conversation: conversation(part),
            ids: part.arrays("ids").into_iter().map(MessageId).collect(),
        };
        all.iter().map(list).collect::<Vec<_>>()
    };
    let (acknowledged, cancelled) = (group.part("acknowledged"), group.part("cancelled"));
    is_note(&acknowledged, Control { acknowledged: lists(&acknowledged), ..Control::default() });
    is_note(&cancelled, Control { cancelled: lists(&cancelled), ..Control::default() });
    let (missing, withdrawn) = (group.part("missing"), group.part("withdrawn"));
    let gap = |part: &Part<'_>| Missing {
        conversation: conversation(part),
        incarnation: part.array("incarnation"),
        from: part.number("from"),
        to: part.number("to"),
    };
    let gaps = |part: &Part<'_>| part.part("gaps").parts().iter().map(gap).collect::<Vec<_>>();
    is_note(&missing, Control { missing: gaps(&missing), ..Control::default() });
    is_note(&withdrawn, Control { withdrawn: gaps(&withdrawn), ..Control::default() });
    let refused = group.part("refused");
    let refusal = |part: &Part<'_>| Refused {
        conversation: conversation(part),
        id: MessageId(part.array("id")),
        reason: match part.number("reason") {
            0 => RefusedReason::Unknown,
            1 => RefusedReason::TooLarge,
            2 => RefusedReason::Damaged,
            other => panic!("{other}"),
        },
    };
    let all = refused.part("messages").parts().iter().map(refusal).collect();
    is_note(&refused, Control { refused: all, ..Control::default() });
}

fn is_note(part: &Part<'_>, control: Control) {
    part.is("payload", control.to_bytes());
    assert!(Plaintext::from_bytes(&part.bytes("payload")) == Ok(Plaintext::Control(control)));
}
