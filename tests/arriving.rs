//! Large contents of a peer who speaks the protocol and does not keep its rules, in parts, to a real daemon.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod peer;
mod support;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use chatterbox::crypto::hash::sha256;
use chatterbox::limits::{ARRIVING_PER_AUTHOR_MAX, ENVELOPE_BYTES, PART_BYTES};
use chatterbox::wire::control::{Control, Messages};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::{ConversationId, MessageId};
use chatterbox::wire::part::Part;
use chatterbox::wire::payload::{Content, Payload};
use chatterbox::wire::transcript::Transcript;
use peer::{Peer, wait_for_alert};
use support::disk::{self, Disk};
use support::{User, World, entries, is_left_out};
use zeroize::Zeroizing;

/// What large contents may add to the most memory that a daemon ever holds.
const RISE_MAX_KIB: u64 = 16 * 1024;

/// A content, and the message that it is of.
struct Large {
    payload: Payload,
    bytes: Vec<u8>,
}

impl Large {
    /// Of so many parts, the last of which is short.
    fn new(peer: &Peer, parts: u64, counter: u64) -> Self {
        let size = (parts - 1) * PART_BYTES + 500;
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from((at * at + counter) % 253).unwrap()).collect();
        let mut payload = Payload { introduction: None, counter, ..peer.payload("") };
        payload.part = Some(Part { number: 0, size, sha256: sha256(&[&bytes]) });
        payload.content = Some(Content { file_name: b"plan.pdf".to_vec(), bytes: Zeroizing::default() });
        Self { payload, bytes }
    }

    fn part(&self, number: u32) -> Payload {
        let mut payload = self.payload.clone();
        let part = Part { number, ..payload.part.unwrap() };
        let start = usize::try_from(part.offset()).unwrap();
        let bytes = self.bytes[start..start + usize::try_from(part.length()).unwrap()].to_vec();
        payload.part = Some(part);
        payload.transcript = (number == 0).then(Transcript::default);
        payload.content.as_mut().unwrap().bytes = Zeroizing::new(bytes);
        payload
    }

    async fn send(&self, peer: &mut Peer, parts: impl IntoIterator<Item = u32>) {
        for number in parts {
            peer.send(&self.part(number)).await;
        }
    }

    /// Where it stands whole, and nothing else of it.
    fn standing(&self, bob: &User) -> Option<PathBuf> {
        let mut found = bob.messages().into_iter().filter(|(_, name, _)| name.ends_with("-plan.pdf"));
        let (directory, name, bytes) = found.find(|(_, _, bytes)| bytes.len() == self.bytes.len())?;
        assert!(bytes == self.bytes, "{name} is not what was sent");
        Some(bob.at("conversations").join(directory).join(name))
    }

    fn wait_for(&self, bob: &User) -> PathBuf {
        bob.wait_for("the whole", || self.standing(bob))
    }
}

/// A contact of bob's, who has written once.
async fn contact(bob: &User, name: &str) -> Peer {
    let mut peer = Peer::new(name, bob).await;
    fs::write(bob.at(format!("contacts/{name}.card")), peer.profile.to_string()).unwrap();
    let text = format!("hello from {name}");
    peer.send(&peer.payload(&text)).await;
    bob.wait_for_message(&text);
    peer
}

/// What came before it has been dealt with when a message of the same peer has appeared.
async fn wait_until_heard(peer: &mut Peer, bob: &User, text: &str) {
    peer.send(&Payload { counter: 99, ..peer.payload(text) }).await;
    bob.wait_for_message(text);
}

fn plans(bob: &User) -> usize {
    bob.messages().iter().filter(|(_, name, _)| name.contains("plan.pdf")).count()
}

#[tokio::test]
async fn parts_in_disorder_and_repeated_become_one_file_though_the_daemon_is_killed_in_the_middle() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = contact(&bob, "peer").await;
    let large = Large::new(&peer, 60, 2);
    large.send(&mut peer, (0..30).rev()).await;
    large.send(&mut peer, [3, 3, 29]).await;
    bob.wait_for_status("receiving: from peer: 50% of 649.4 KiB (plan.pdf)");
    assert_eq!(plans(&bob), 0, "nobody sees a part of it");
    bob.kill();
    bob.start();
    // It goes on where it was.
    bob.wait_for_status("receiving: from peer: 50% of 649.4 KiB (plan.pdf)");
    large.send(&mut peer, 30..59).await;
    bob.wait_for_status("receiving: from peer: 99% of 649.4 KiB (plan.pdf)");
    bob.kill();
    bob.start();
    large.send(&mut peer, [59]).await;
    let path = large.wait_for(&bob);
    assert!(path.to_str().unwrap().ends_with("Z-peer-plan.pdf"), "{}", path.display());
    assert!(bob.delivery(&path).contains("\ncounter: 2\n"));
    large.send(&mut peer, [0, 59]).await;
    wait_until_heard(&mut peer, &bob, "last").await;
    assert_eq!(plans(&bob), 1);
    bob.stop();
    assert!(entries(&bob.at("keys/arriving")).is_empty() && entries(&bob.at("journal/arriving")).is_empty());
    assert_eq!(fs::read(path).unwrap(), large.bytes);
    let report = bob.cli(&["doctor"]);
    assert!(report.status.success(), "{report:?}");
}

#[tokio::test]
async fn what_lies_about_itself_is_discarded_aloud_and_leaves_nothing() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.set("receive_limit = \"1 MiB\"");
    bob.start();
    let mut peer = contact(&bob, "peer").await;
    let contradicting = Large::new(&peer, 5, 2);
    contradicting.send(&mut peer, [0, 1]).await;
    let mut other = contradicting.part(2);
    other.part.as_mut().unwrap().size += 1;
    other.part.as_mut().unwrap().number = 0;
    peer.send(&other).await;
    wait_for_alert(&bob, "its parts contradict each other");
    contradicting.send(&mut peer, 0..5).await;

    let mut wrong = Large::new(&peer, 5, 3);
    wrong.bytes[40_000] ^= 1;
    wrong.send(&mut peer, 0..5).await;
    wait_for_alert(&bob, "they are not what it says");

    let huge = Large::new(&peer, 100, 4);
    huge.send(&mut peer, 0..20).await;
    let alert = wait_for_alert(&bob, "sent plan.pdf of 1.0 MiB, which was refused");
    assert!(alert.contains("receive_limit"), "{alert}");

    // The last of many, which is all that comes: no zeros are written before it.
    let far = Large::new(&peer, 90, 5);
    far.send(&mut peer, [89]).await;
    bob.wait_for_status("receiving: from peer: 0% of 979.4 KiB");
    wait_until_heard(&mut peer, &bob, "last").await;
    let [content] = &entries(&bob.at("journal/arriving"))[..] else { panic!("one is on its way") };
    let found = fs::metadata(content).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&found);
    assert!(found.len() == far.bytes.len() as u64 && blocks < 64, "{blocks} blocks");
    assert_eq!((plans(&bob), entries(&bob.at("alerts")).len()), (0, 3));
}

#[tokio::test]
async fn what_is_cancelled_in_the_middle_is_gone_and_was_never_seen() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = contact(&bob, "peer").await;
    let large = Large::new(&peer, 5, 2);
    large.send(&mut peer, 0..4).await;
    bob.wait_for_status("receiving: from peer: ");
    let messages = Messages { conversation: large.payload.conversation, ids: vec![large.payload.id] };
    let note = Control { cancelled: vec![messages], ..Control::default() };
    let envelope = peer.seal(&note.to_bytes()).await;
    peer.deliver(envelope).await;
    large.send(&mut peer, [4]).await;
    wait_until_heard(&mut peer, &bob, "last").await;
    bob.stop();
    assert!(entries(&bob.at("keys/arriving")).is_empty() && entries(&bob.at("journal/arriving")).is_empty());
    assert_eq!((plans(&bob), entries(&bob.at("alerts")).len()), (0, 0));
}

#[tokio::test]
async fn who_begins_with_much_and_ends_nothing_is_in_nobodys_way() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let (mut mallory, mut friend) = (contact(&bob, "mallory").await, contact(&bob, "friend").await);
    let many: Vec<Large> = (0..ARRIVING_PER_AUTHOR_MAX as u64 + 4).map(|n| Large::new(&mallory, 2, n + 2)).collect();
    for large in &many {
        large.send(&mut mallory, [0]).await;
    }
    bob.wait_for_status("receiving: 4 parts wait at our server: more contents are on their way");
    let large = Large::new(&friend, 3, 2);
    large.send(&mut friend, 0..3).await;
    large.wait_for(&bob);
    wait_until_heard(&mut mallory, &bob, "their own small ones come, too").await;
    // What was left comes when there is room for it.
    let ids = many[..4].iter().map(|large| large.payload.id).collect();
    let messages = Messages { conversation: many[0].payload.conversation, ids };
    let note = Control { cancelled: vec![messages], ..Control::default() };
    let envelope = mallory.seal(&note.to_bytes()).await;
    mallory.deliver(envelope).await;
    let last = many.last().unwrap();
    last.send(&mut mallory, [1]).await;
    last.wait_for(&bob);
    assert!(entries(&bob.at("alerts")).is_empty());
}

/// Pieces of as many contents as may be on their way, backwards and with holes, so that none of them comes to an end.
#[tokio::test]
async fn whoever_scatters_pieces_of_many_large_contents_costs_a_bounded_memory() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut mallory = contact(&bob, "mallory").await;
    let peak = |bob: &User| {
        let peak = bob.daemon.as_ref().unwrap().peak_memory();
        peak.strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap()
    };
    let before = peak(&bob);
    // All of it is in his mailbox when he comes.
    bob.stop();
    let many: Vec<Large> = (0..ARRIVING_PER_AUTHOR_MAX as u64).map(|n| Large::new(&mallory, 201, n + 2)).collect();
    for number in (0..200).rev().step_by(4) {
        for large in &many {
            large.send(&mut mallory, [number]).await;
        }
    }
    bob.start();
    wait_until_heard(&mut mallory, &bob, "last").await;
    assert_eq!(entries(&bob.at("journal/arriving")).len(), many.len());
    let after = peak(&bob);
    let _ = writeln!(std::io::stderr(), "peaks of memory, KiB: {before}, then {after}");
    assert!(after < before + RISE_MAX_KIB, "the peak rose from {before} to {after} KiB");
    assert!(entries(&bob.at("alerts")).is_empty());
}

#[tokio::test]
async fn parts_of_a_conversation_that_nobody_knows_yet_push_out_nothing_and_wait_for_it() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = contact(&bob, "peer").await;
    peer.deliver(Envelope::from_vec(vec![7; ENVELOPE_BYTES]).unwrap()).await;
    let kept = || entries(&bob.at("journal/unopened")).len() == 1;
    bob.wait_for("what nobody opens put aside", || kept().then_some(()));
    let salt = [9; 16];
    let both = [peer.fingerprint(), peer.victim()];
    let mut large = Large::new(&peer, 300, 2);
    large.payload.conversation = ConversationId::salted(&salt, &both);
    large.send(&mut peer, 0..300).await;
    bob.wait_for_status("receiving: 300 parts wait at our server: their conversation is not known yet");
    assert!(kept());
    let mut introducing = peer.payload("about this");
    introducing.conversation = large.payload.conversation;
    introducing.introduction.as_mut().unwrap().salt = Some(salt);
    introducing.id = MessageId([5; 16]);
    peer.send(&introducing).await;
    large.wait_for(&bob);
    assert!(kept() && entries(&bob.at("alerts")).is_empty());
}

#[tokio::test]
async fn a_strangers_content_waits_in_their_request_and_a_very_large_one_is_passed_over() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut eve = Peer::new("eve", &bob).await;
    eve.send(&eve.payload("hello")).await;
    let request = bob.at(format!("requests/eve~{}", eve.fingerprint().short(8)));
    bob.wait_for("a request", || request.join("card").exists().then_some(()));
    let (small, huge) = (Large::new(&eve, 50, 2), Large::new(&eve, 100, 3));
    huge.send(&mut eve, 0..5).await;
    small.send(&mut eve, 0..50).await;
    let in_request = || entries(&request).into_iter().find(|path| path.to_string_lossy().ends_with("plan.pdf"));
    let path = bob.wait_for("a large one in the request", in_request);
    assert_eq!(fs::read(path).unwrap(), small.bytes);
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&bob.at("journal/unopened")).is_empty());
    // It moves with the others.
    fs::rename(request.join("card"), bob.at("contacts/eve.card")).unwrap();
    small.wait_for(&bob);
    bob.wait_until_gone(&request);
    bob.stop();
    assert!(entries(&bob.at("journal/arriving")).is_empty());
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_parts_until_there_is_room() {
    if is_left_out(disk::missing()) {
        return;
    }
    let world = World::new();
    let disk = Disk::new(&world.scratch.path().join("disk"), "size=64m");
    let mut bob = world.user_on("bob", &disk);
    bob.start_under(disk.daemon());
    let mut peer = contact(&bob, "peer").await;
    let ballast = disk.fill(2 << 20);
    let large = Large::new(&peer, 10, 2);
    large.send(&mut peer, 0..10).await;
    bob.wait_for_status("receiving: 10 parts wait at our server: the disk is nearly full");
    // What is small has room.
    wait_until_heard(&mut peer, &bob, "small").await;
    fs::remove_file(ballast).unwrap();
    large.wait_for(&bob);
    assert!(entries(&bob.at("alerts")).is_empty());
}
