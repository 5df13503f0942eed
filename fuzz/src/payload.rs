//! What an envelope holds: a message or a note. An input is a byte, and what follows: the bytes as they are if it is even,
//! else fields, among them good profiles. What parses stays within its bounds, is no longer when it is written, and is read
//! again as it was.

use chatterbox::clock::Timestamp;
use chatterbox::envelope::PAYLOAD_BYTES_MAX;
use chatterbox::limits::{
    CONTENT_BYTES_MAX, FILE_NAME_BYTES_MAX, LARGE_CONTENT_BYTES_MAX, PART_BYTES, PARTICIPANTS_MAX, SUBJECT_BYTES_MAX,
};
use chatterbox::wire::control::{Control, Messages, Missing, Rank, Refused, RefusedReason};
use chatterbox::wire::identity::{ConversationId, MessageId};
use chatterbox::wire::part::Part;
use chatterbox::wire::payload::{Content, Payload, Plaintext};
use chatterbox::wire::transcript::{Seen, Transcript};

use super::input::Input;
use super::profile;
use super::proto;

/// Checks one input; says whether it is a payload.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    let fields = input.byte() % 2 == 1;
    let built = if fields { proto::message(&mut input, 0, &mut signed_profile) } else { input.0.to_vec() };
    // An envelope holds no more.
    let bytes = &built[..built.len().min(PAYLOAD_BYTES_MAX)];
    let Ok(plaintext) = Plaintext::from_bytes(bytes) else { return false };
    let written = match &plaintext {
        Plaintext::Message(message) => {
            is_bounded(message);
            message.to_bytes().to_vec()
        }
        Plaintext::Control(note) => note.to_bytes(),
    };
    assert!(written.len() <= bytes.len(), "{} bytes became {}", bytes.len(), written.len());
    assert!(Plaintext::from_bytes(&written) == Ok(plaintext), "a payload does not come back");
    true
}

fn is_bounded(message: &Payload) {
    assert_ne!(message.counter, 0);
    if let Some(transcript) = &message.transcript {
        assert!(transcript.seen.len() < PARTICIPANTS_MAX);
    }
    if let Some(introduction) = &message.introduction {
        assert!(introduction.subject.len() <= SUBJECT_BYTES_MAX);
        assert!((2..=PARTICIPANTS_MAX).contains(&introduction.profiles.len()));
    }
    if let Some(content) = &message.content {
        assert!(content.file_name.len() <= FILE_NAME_BYTES_MAX);
        match message.part {
            None => assert!((1..=CONTENT_BYTES_MAX).contains(&content.bytes.len())),
            Some(part) => {
                assert!(part.number < part.count() && content.bytes.len() as u64 == part.length());
                assert!((CONTENT_BYTES_MAX as u64 + 1..=LARGE_CONTENT_BYTES_MAX).contains(&part.size));
            }
        }
    }
}

/// Somebody's; nearly always a good one.
fn signed_profile(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        0 => profile::good().as_bytes().to_vec(),
        forged @ 240.. => {
            let mut bytes = profile::good().as_bytes().to_vec();
            bytes[usize::from(forged) - 200] ^= 1;
            bytes
        }
        name => profile::signed(&profile::fields(&name.to_string(), "server.example", 1)),
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |bytes: &[u8]| [&[0], bytes].concat();
    let rank = Rank { generation: u64::MAX, opening: [9; 32] };
    let note =
        Control { highest: Some(rank), lost_since: Some(7), profile: Some(profile::good()), ..Control::default() };
    // See `proto::message`: id, conversation, participants, time, incarnation, counter.
    let head =
        [&[1, 0x31][..], &[1; 16], &[0x32], &[2; 16], &[0x43], &[3; 32], &[4, 9, 0x35], &[5; 16], &[6, 1]].concat();
    let fields = |more: &[u8]| [&head, more].concat();
    let introduction = [0x27, 0x11, 2, b'h', b'i', 2, 9, 0x63, 0, 0x63, 1];
    let introduced = |more: &[u8]| fields(&[&introduction, more].concat());
    let part = |number, size: u64| {
        let part = Part { number, size, sha256: [8; 32] };
        let bytes = vec![7; usize::try_from(part.length()).unwrap_or(0)];
        let seen = Seen { participant: 1, incarnation: [5; 16], counter: 3, hash: [4; 32] };
        let payload = Payload {
            id: MessageId([1; 16]),
            conversation: ConversationId([2; 16]),
            participants: [3; 32],
            time: Timestamp::from_micros(4),
            incarnation: [5; 16],
            counter: 6,
            introduction: None,
            profile: None,
            resent: 0,
            transcript: (number == 0).then(|| Transcript { previous: [9; 32], seen: vec![seen] }),
            part: Some(part),
            content: Some(Content { file_name: b"plan.pdf".to_vec(), bytes: bytes.into() }),
        };
        raw(&payload.to_bytes())
    };
    let messages = |id| vec![Messages { conversation: ConversationId([2; 16]), ids: vec![MessageId([id; 16])] }];
    let about_messages = Control {
        acknowledged: messages(1),
        cancelled: messages(2),
        missing: vec![Missing { conversation: ConversationId([2; 16]), incarnation: [5; 16], from: 3, to: 4 }],
        withdrawn: vec![Missing { conversation: ConversationId([2; 16]), incarnation: [6; 16], from: 5, to: u64::MAX }],
        refused: vec![Refused {
            conversation: ConversationId([2; 16]),
            id: MessageId([3; 16]),
            reason: RefusedReason::TooLarge,
        }],
        ..Control::default()
    };
    vec![
        ("first-part", part(0, 3 * PART_BYTES)),
        ("last-part", part(3, 3 * PART_BYTES + 1)),
        ("note-about-messages", raw(&about_messages.to_bytes())),
        ("nothing", vec![]),
        ("empty-note", raw(&Control::default().to_bytes())),
        ("note", raw(&note.to_bytes())),
        ("note-cut", raw(&note.to_bytes()[..30])),
        ("note-with-a-short-hash", fields(&[0x2b, 0x21, 1, 9, 0x32, 0, 0, 0])),
        ("head-alone", fields(&[])),
        ("message", fields(&[0x2a, 0x11, 5, b'a', b'.', b't', b'x', b't', 0x12, 2, b'h', b'i'])),
        ("empty-content", fields(&[0x2a])),
        ("content-too-long", fields(&[0x2a, 0x72, 0x30, 0, 7])),
        ("longest-content", fields(&[0x2a, 0x72, 0x28, 0, 7])),
        ("file-name-too-long", fields(&[0x2a, 0x71, 1, 0, 7, 0x12, 1, 7])),
        ("counter-0", fields(&[6, 0])),
        ("times-to-come", fields(&[4, 255, 9, 255])),
        ("resent-beyond-32-bits", fields(&[9, 250])),
        ("profile", fields(&[0x68, 0])),
        ("forged-profile", fields(&[0x68, 240])),
        ("introduction", introduced(&[])),
        ("introduction-with-a-salt", introduced(&[&[0x34][..], &[4; 16]].concat())),
        ("introduction-with-a-forgery", introduced(&[0x63, 240])),
        ("subject-too-long", introduced(&[0x71, 0, 201, b'x'])),
        ("subject-not-utf-8", introduced(&[0x11, 1, 0xff])),
    ]
}
