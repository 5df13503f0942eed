//! The attacks that this project must withstand (design, section 11), each by its name, through the real programs. What a home
//! server can do, a double of it does that keeps the protocol and none of its promises (`tests/lying_server`).
//!
//! | attack | withstood by the real programs | and below |
//! |---|---|---|
//! | reading on the wire | `who_reads_the_wire_…` | `attacks_ratchet`: `what_is_recorded_on_the_wire_…` |
//! | modifying or dropping on the wire | `what_is_changed_dropped_repeated_or_cut_on_the_wire_…`, `what_the_server_changes_…` | `envelope`, `handshake`: their unit tests |
//! | dropping messages to or from one participant | `messages_dropped_to_one_participant_…`, `messages_dropped_from_one_participant_…`, `a_dropped_opening_…`, `a_dropped_last_message_…` | |
//! | writing into a conversation from outside | `hostile_peer`: `an_outsider_does_not_write_…`, `nobody_squats_on_…` | |
//! | having one message key, several, a session key | `a_thief_of_yesterdays_backup_…` | `attacks_ratchet`: `who_has_one_message_key_…`, `…_several_…`, `…_the_keys_of_a_session_…` |
//! | having all former keys of one or of all participants | `a_thief_of_yesterdays_backup_…` | `attacks_ratchet`: `who_has_all_former_keys_of_one_…`, `…_of_all_…`, `a_stolen_state_…` |
//! | sending in someone's name | `who_opens_a_session_in_someones_name_…` | `ratchet`: `an_opening_by_somebody_else_…`; `attacks_ratchet` |
//! | replay, of first messages too | `first_messages_and_others_that_are_replayed_…`; `hostile_peer`: `a_repeated_envelope_…`, `a_key_that_is_used_again_…` | `ratchet`: `any_order_…` |
//! | different content to different participants | `different_content_to_different_participants_…`, `two_messages_under_one_id_…` | |
//! | asking for a rekey | `a_server_that_lies_about_the_counter_…`; `hostile_peer`: `garbage_…`, `a_stranger_who_says_…`; `recovery` | `client::counter` |
//! | adding many users or bogus users | `bogus_participants_…`, `many_strangers_…`; `hostile_peer`: `nobody_squats_on_…` | |
//! | impersonating a former participant | `who_takes_the_name_of_a_former_participant_…`; `hostile_peer`: `a_stranger_who_calls_themself_…`; `identity`: `other_keys_under_a_contacts_name_…` | |
//! | a server that lies | `a_server_that_hands_out_anothers_prekey_…`, `a_server_that_talks_nonsense_…`; `bad_input`: `an_impostor_server_…` | |
//! | a server that reorders, repeats, withholds | `a_server_that_withholds_and_a_server_that_reorders_…`, `a_server_that_repeats_…`; `predecessors`: `a_backlog_that_comes_backwards_…` | `ratchet::disorder` |
//! | a server that hands out a prekey twice, or says that they ran out | `a_server_that_hands_out_a_prekey_twice_…`, `a_server_that_says_that_the_prekeys_ran_out_…`; `hostile_peer`: `a_prekey_that_is_handed_out_twice_…` | `client::prekeys` |
//! | a thief of yesterday's backup | `a_thief_of_yesterdays_backup_…`; `hostile_peer`: `somebody_with_a_copy_…`; `recovery` | `attacks_ratchet`: `a_stolen_state_…` |

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod lying_server;
mod peer;
mod support;

use std::fs;

use chatterbox::clock::Timestamp;
use chatterbox::envelope;
use chatterbox::limits::{ENVELOPE_BYTES, PARTICIPANTS_MAX, REQUESTS_MAX};
use chatterbox::ratchet::{self, OpeningKeys, Session};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::{AccountId, ConversationId, Fingerprint, Identity, participants_hash};
use chatterbox::wire::payload::Payload;
use chatterbox::wire::prekey::{PrekeyKind, SignedPrekey};
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::reply::{Reply, ServerMessage};
use chatterbox::wire::request::Command;
use chatterbox::wire::session::sessions_from_bytes;
use chatterbox::wire::state::{AccountKeys, PrekeySecret, prekeys_from_bytes};
use chatterbox::wire::transcript::Transcript;
use lying_server::store::Fate;
use lying_server::wire::{Damage, FRAME, HANDSHAKE, Harm, Way};
use lying_server::{LyingServer, Trick};
use peer::{Peer, wait_for_alert};
use rand_core::OsRng;
use support::{User, World, entries};

/// Accounts at the lying server whose daemons run, all of whom hold each other's cards.
fn friends<const N: usize>(world: &World, server: &LyingServer, names: [&str; N]) -> [User; N] {
    let mut users = names.map(|name| world.user_at(name, &server.address));
    for one in 0..N {
        for other in (0..N).filter(|other| *other != one) {
            users[one].add(&users[other]);
        }
    }
    users.iter_mut().for_each(User::start);
    users
}

fn profile(user: &User) -> SignedProfile {
    user.card().parse().unwrap()
}

fn account(user: &User) -> AccountId {
    profile(user).profile().account
}

/// Both have written and heard, so that a session stands.
fn acquaint(alice: &User, bob: &User) {
    alice.drop_file("bob", "x", "hello bob");
    bob.wait_for_message("hello bob");
    bob.drop_file("alice", "x", "hello alice");
    alice.wait_for_message("hello alice");
}

fn alerts(user: &User) -> Vec<String> {
    entries(&user.at("alerts")).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("number {number}")).collect()
}

/// Sends these, and waits until the server has said of each that it has it.
fn send_all(from: &User, to: &str, contents: &[String]) {
    for content in contents {
        from.move_file(to, content, content);
    }
    for content in contents {
        let message = from.wait_for_message(content);
        from.wait_until_accepted(&message);
    }
}

/// Waits until everything that reached the server for this user is dealt with.
fn wait_until_fetched(server: &LyingServer, user: &User) {
    user.wait_for("an empty mailbox", || (server.in_mailbox(account(user)) == 0).then_some(()));
}

#[test]
fn who_reads_the_wire_sees_frames_of_one_size_and_no_word() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    alice.drop_file("bob", "secret.txt", vec![b'w'; 10_000]);
    alice.wait_until_gone("outbox/bob/secret.txt");
    bob.wait_for("the long one", || bob.messages().iter().any(|(_, _, content)| content.len() == 10_000).then_some(()));
    let carried = server.carried();
    assert!(carried.len() >= 4, "home and delivery of both");
    let of = |user: &User| {
        let profile = profile(user);
        [profile.profile().account.0.0, profile.identity().signing.0, profile.identity().auth.0]
    };
    let mut words: Vec<Vec<u8>> = [of(&alice), of(&bob)].concat().iter().map(|key| key.to_vec()).collect();
    words.extend(["hello", "alice", "secret", "wwwwwwww"].map(|word| word.as_bytes().to_vec()));
    for bytes in carried.iter().flatten() {
        // Whole frames but for the last, which may be on its way.
        for frame in bytes.get(HANDSHAKE..).unwrap_or_default().chunks(FRAME) {
            assert!([0x90, 0x82, 0x01].starts_with(&frame[..frame.len().min(3)]), "another length");
        }
        for word in &words {
            assert!(!bytes.windows(word.len()).any(|window| window == word), "{word:?}");
        }
    }
}

/// Each harm in each direction: in the handshake, in the first frame and behind several. It strikes home connections and those of
/// deliveries, as they come.
#[test]
fn what_is_changed_dropped_repeated_or_cut_on_the_wire_arrives_once_and_whole_all_the_same() {
    let (world, server) = (World::new(), LyingServer::start());
    let [mut alice, mut bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    let second = HANDSHAKE + FRAME;
    let harms = [
        [10, HANDSHAKE - 20, HANDSHAKE + 500, second + 1, second + 2 * FRAME + 700]
            .map(|at| (at, Harm::Change))
            .to_vec(),
        [HANDSHAKE, second].map(|at| (at, Harm::Repeat(FRAME))).to_vec(),
        // One behind which others come: what is missing shows in the next.
        vec![(second, Harm::LeaveOut(FRAME))],
        [0, 16, 32, 100, HANDSHAKE, second + 100].map(|at| (at, Harm::End)).to_vec(),
    ];
    let both = |(at, harm)| [Way::ToServer, Way::ToClient].map(|way| Trick::Wire(Damage { way, at, harm }));
    let mut tricks = harms.concat().into_iter().flat_map(both).peekable();
    let mut sent = Vec::new();
    while tricks.peek().is_some() || server.tricks_left() > 0 {
        alice.stop();
        bob.stop();
        // No more at a time, since who meets one waits longer after each before the next try.
        server.play(tricks.by_ref().take(3));
        alice.start();
        bob.start();
        let content = format!("number {}", sent.len());
        alice.drop_file("bob", "x", &content);
        bob.drop_file("alice", "x", &content);
        sent.push(content);
        for user in [&alice, &bob] {
            user.wait_for("both", || (user.messages().len() == 2 * sent.len() + 2).then_some(()));
        }
    }
    let heard = |greeting: &str| [&[greeting.to_owned()][..], &sent].concat();
    for user in [&alice, &bob] {
        assert_eq!(user.heard_from("alice"), heard("hello bob"));
        assert_eq!(user.heard_from("bob"), heard("hello alice"));
        assert_eq!(alerts(user), [""; 0]);
    }
}

#[test]
fn what_the_server_changes_in_an_envelope_does_not_open_and_harms_no_other() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    // Tag, ephemeral key, nonce, header, its end, body, its end.
    let mut places = [3, 20, 50, 80, 2_473, 2_480, ENVELOPE_BYTES - 1].into_iter();
    let count = places.len();
    server.lie(|lies| lies.on_delivery = Some(Box::new(move |_| places.next().map_or(Fate::Stored, Fate::Changed))));
    send_all(&alice, "bob", &numbered(0..count + 3));
    bob.wait_for_message(&format!("number {}", count + 2));
    wait_until_fetched(&server, &bob);
    // A bit of the tag or of nothing that matters costs no message, where the rest still opens; the others are gone.
    let heard = bob.heard_from("alice");
    assert_eq!(heard[0], "hello bob");
    assert_eq!(heard[heard.len() - 3..], numbered(count..count + 3), "those behind them");
    for content in &heard[1..heard.len() - 3] {
        assert!(numbered(0..count).contains(content), "{content} was not sent");
    }
    assert!(heard.len() < count + 4);
    // The genuine ones still open when they come: the damaged ones changed nothing.
    let genuine = server.lie(|lies| lies.seen.clone());
    genuine.into_iter().filter(|(to, _)| *to == account(&bob)).for_each(|(to, envelope)| server.deliver(to, envelope));
    for content in numbered(0..count) {
        bob.wait_for_message(&content);
    }
    wait_until_fetched(&server, &bob);
    let mut heard = bob.heard_from("alice");
    heard.sort();
    let mut expected = [numbered(0..count + 3), vec!["hello bob".to_owned()]].concat();
    expected.sort();
    assert_eq!(heard, expected, "each once");
}

/// Opening or not, whatever goes to `victim` vanishes, and the sender is told that it is stored.
fn drop_all_to(server: &LyingServer, victim: AccountId) {
    server.lie(|lies| {
        lies.on_delivery = Some(Box::new(move |to| if to == victim { Fate::Dropped } else { Fate::Stored }));
    });
}

#[test]
fn messages_dropped_to_one_participant_reach_the_others_and_none_is_called_delivered_until_it_is_asked_for() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob, carol] = friends(&world, &server, ["alice", "bob", "carol"]);
    alice.drop_file("bob,carol", "x", "to both");
    bob.wait_for_message("to both");
    carol.wait_for_message("to both");
    drop_all_to(&server, account(&bob));
    let lost = numbered(0..3);
    send_all(&alice, "bob,carol", &lost);
    carol.wait_for_message("number 2");
    let told = alice.delivery(&alice.wait_for_message("number 2"));
    let of_bob = told.lines().find(|line| line.starts_with("to: ") && line.ends_with(" bob")).unwrap();
    assert!(of_bob.contains(" accepted "), "the server's word, and no more: {told}");
    server.lie(|lies| lies.on_delivery = None);
    send_all(&alice, "bob,carol", &numbered(3..5));
    bob.wait_for_message("number 4");
    carol.wait_for_message("number 4");
    // What is behind them tells of them, and Alice is asked for them again.
    lost.iter().for_each(|content| drop(bob.wait_for_message(content)));
    for user in [&bob, &carol] {
        assert_eq!(user.heard_from("alice"), [&["to both".to_owned()][..], &numbered(0..5)].concat());
    }
    for user in [&alice, &bob, &carol] {
        assert_eq!(alerts(user), [""; 0]);
    }
}

#[test]
fn messages_dropped_from_one_participant_do_not_hold_up_the_others_and_are_asked_for() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob, carol] = friends(&world, &server, ["alice", "bob", "carol"]);
    alice.drop_file("bob,carol", "x", "to both");
    bob.wait_for_message("to both");
    carol.wait_for_message("to both");
    // Only Alice writes meanwhile, so it is hers that vanish.
    server.lie(|lies| lies.on_delivery = Some(Box::new(|_| Fate::Dropped)));
    send_all(&alice, "bob,carol", &numbered(0..3));
    server.lie(|lies| lies.on_delivery = None);
    for from in [&bob, &carol] {
        let others = if from.name == "bob" { "alice,carol" } else { "alice,bob" };
        from.drop_file(others, "x", format!("{} is heard", from.name));
    }
    for user in [&alice, &bob, &carol] {
        user.wait_for_message("bob is heard");
        user.wait_for_message("carol is heard");
    }
    alice.drop_file("bob,carol", "x", "and alice again");
    bob.wait_for_message("and alice again");
    carol.wait_for_message("and alice again");
    for user in [&bob, &carol] {
        numbered(0..3).iter().for_each(|content| drop(user.wait_for_message(content)));
        let in_order = [&["to both".to_owned()][..], &numbered(0..3), &["and alice again".to_owned()]].concat();
        assert_eq!(user.heard_from("alice"), in_order);
    }
}

fn wait_for_a_later_second(world: &World) {
    let second = Timestamp::now().seconds();
    let has_passed = || (Timestamp::now().seconds() > second).then_some(());
    support::wait_for(world.scratch.path(), "a second", has_passed);
}

/// Behind the last message nothing tells of a gap.
#[test]
fn a_dropped_last_message_and_a_dropped_acknowledgement_are_mended_when_their_recipient_is_heard() {
    let (world, server) = (World::new(), LyingServer::start());
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| world.user_at(name, &server.address));
    alice.add(&bob);
    bob.add(&alice);
    alice.set("retry_period = \"40s\"");
    bob.set("acknowledge_delay = \"1s\"");
    alice.start();
    bob.start();
    send_all(&alice, "bob", &numbered(0..1));
    alice.wait_until_delivered(&alice.wait_for_message("number 0"));

    drop_all_to(&server, account(&bob));
    send_all(&alice, "bob", &numbered(1..2));
    let lost = alice.wait_for_message("number 1");
    alice.wait_for_states(&lost, &["accepted"]);
    server.lie(|lies| lies.on_delivery = None);
    wait_for_a_later_second(&world);
    bob.drop_file("alice", "x", "are you there?");
    alice.wait_until_delivered(&lost);

    let to_alice = account(&alice);
    let seen = || server.lie(|lies| lies.seen.iter().filter(|(to, _)| *to == to_alice).count());
    let before = seen();
    drop_all_to(&server, to_alice);
    send_all(&alice, "bob", &numbered(2..3));
    bob.wait_for_message("number 2");
    bob.wait_for("its acknowledgement", || (seen() > before).then_some(()));
    server.lie(|lies| lies.on_delivery = None);
    wait_for_a_later_second(&world);
    bob.drop_file("alice", "x", "it is here");
    alice.wait_until_delivered(&alice.wait_for_message("number 2"));
    assert_eq!(bob.heard_from("alice"), numbered(0..3), "each once");
    assert_eq!(alice.heard_from("bob"), ["are you there?", "it is here"]);
    assert!([&alice, &bob].iter().all(|user| alerts(user).is_empty()));
}

/// Nothing that follows a lost opening can be read, and its author is not told. The first word of the other side mends it.
#[test]
fn a_dropped_opening_silences_nobody_for_good() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    drop_all_to(&server, account(&bob));
    send_all(&alice, "bob", &numbered(0..1));
    server.lie(|lies| lies.on_delivery = None);
    send_all(&alice, "bob", &numbered(1..3));
    bob.wait_for("what does not open", || (entries(&bob.at("journal/unopened")).len() == 2).then_some(()));
    bob.drop_file("alice", "x", "are you there?");
    alice.wait_for_message("are you there?");
    send_all(&alice, "bob", &numbered(3..5));
    bob.wait_for_message("number 4");
    bob.drop_file("alice", "x", "there you are");
    alice.wait_for_message("there you are");
    assert_eq!(bob.heard_from("alice"), numbered(3..5));
}

#[test]
fn a_server_that_withholds_and_a_server_that_reorders_change_nothing_but_the_time() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    // From the opening on: it comes last.
    server.lie(|lies| lies.on_delivery = Some(Box::new(|_| Fate::Withheld)));
    let sent = numbered(0..30);
    send_all(&alice, "bob", &sent);
    let mut withheld = server.lie(|lies| {
        lies.on_delivery = None;
        std::mem::take(&mut lies.withheld)
    });
    assert_eq!(withheld.len(), sent.len());
    // In no order that has to do with how they were sent.
    withheld.sort_by_key(|(_, envelope)| envelope.sha256());
    withheld.into_iter().for_each(|(to, envelope)| server.deliver(to, envelope));
    bob.wait_for("all of them", || (bob.messages().len() == sent.len()).then_some(()));
    assert_eq!(bob.heard_from("alice"), sent, "each once, in the author's order");
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
    for user in [&alice, &bob] {
        assert_eq!(alerts(user), [""; 0]);
        assert!(entries(&user.at("journal/unopened")).is_empty());
    }
}

#[test]
fn a_server_that_repeats_every_envelope_repeats_no_message() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    server.lie(|lies| lies.pushes_twice = true);
    let sent = numbered(0..10);
    send_all(&alice, "bob", &sent);
    bob.wait_for_message("number 9");
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
    assert_eq!(bob.heard_from("alice"), sent);
    for user in [&alice, &bob] {
        assert_eq!(alerts(user), [""; 0]);
    }
}

/// By the server, or by who recorded it: all that was ever delivered, opening and all, comes again and again. What a recipient
/// knows of it is the hash of each envelope; without that memory too, no key serves twice.
#[test]
fn first_messages_and_others_that_are_replayed_appear_once_even_where_their_hashes_are_forgotten() {
    let (world, server) = (World::new(), LyingServer::start());
    let [mut alice, mut bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    let sent = numbered(0..5);
    send_all(&alice, "bob", &sent);
    bob.wait_for_message("number 4");
    for forgotten in [false, true] {
        for user in [&mut alice, &mut bob] {
            wait_until_fetched(&server, user);
            user.stop();
            for path in entries(&user.at("keys")) {
                if forgotten && path.to_string_lossy().contains("/received-") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        let seen = server.lie(|lies| lies.seen.clone());
        seen.into_iter().for_each(|(to, envelope)| server.deliver(to, envelope));
        for user in [&mut alice, &mut bob] {
            user.start();
            wait_until_fetched(&server, user);
        }
        // What would come twice is in front of these.
        let content = format!("behind them, {forgotten}");
        alice.drop_file("bob", "x", &content);
        bob.wait_for_message(&content);
        bob.drop_file("alice", "x", &content);
        alice.wait_for("the answer", || alice.heard_from("bob").contains(&content).then_some(()));
    }
    let last = ["behind them, false", "behind them, true"].map(str::to_owned);
    assert_eq!(bob.heard_from("alice"), [&["hello bob".to_owned()][..], &sent, &last].concat());
    assert_eq!(alice.heard_from("bob"), [&["hello alice".to_owned()][..], &last].concat());
}

#[test]
fn a_server_that_hands_out_anothers_prekey_or_a_changed_one_gets_no_message_sealed_with_it() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob, mallory] = friends(&world, &server, ["alice", "bob", "mallory"]);
    for user in [&bob, &mallory] {
        user.wait_for("prekeys at the server", || {
            server.lie(|lies| lies.uploads.contains_key(&account(user))).then_some(())
        });
    }
    let anothers = account(&mallory);
    let mut turn = 0;
    server.lie(|lies| {
        lies.on_prekey = Some(Box::new(move |_, mut due, uploads| {
            turn += 1;
            let foreign = uploads[&anothers][0].clone();
            match turn {
                1 => return foreign,
                // Bob's name on it, and Mallory's keys in it.
                2 => (due.ratchet, due.kem) = (foreign.ratchet, foreign.kem),
                3 => due.auth = foreign.auth,
                4 => due.expires += 1,
                _ => {}
            }
            due
        }));
    });
    alice.drop_file("bob", "x", "for bob only");
    alice.wait_for_status("trouble: bob: the server handed out a prekey that is not theirs");
    bob.wait_for_message("for bob only");
    alice.wait_for_status("queue: 0");
    let to_bob = account(&bob);
    let sealed = server.lie(|lies| lies.seen.iter().filter(|(to, _)| *to == to_bob).count());
    assert_eq!(sealed, 1, "nothing was sealed with the others");
    assert!(mallory.messages().is_empty() && entries(&mallory.at("journal/unopened")).is_empty());
}

/// Answers to the first request of a connection: no protobuf at all; nothing; the answer to another request; what was not
/// asked for.
#[test]
fn a_server_that_talks_nonsense_is_left_and_found_again_when_it_has_come_to_its_senses() {
    fn reply(id: u64, reply: Reply) -> Vec<u8> {
        ServerMessage::Reply { id, outcome: Ok(reply) }.to_bytes()
    }
    let (world, server) = (World::new(), LyingServer::start());
    let [mut alice, mut bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    let nonsense: [fn(u64) -> Vec<u8>; 4] = [
        |_| vec![0xff; 100],
        |_| Vec::new(),
        |id| reply(id + 1, Reply::Done),
        |id| reply(id, Reply::Counter(Some(vec![7; 256]))),
    ];
    let mut nonsense = nonsense.into_iter().map(Trick::Answer).peekable();
    let mut sent = Vec::new();
    while nonsense.peek().is_some() || server.tricks_left() > 0 {
        alice.stop();
        bob.stop();
        server.play(nonsense.by_ref().take(2));
        alice.start();
        bob.start();
        let content = format!("number {}", sent.len());
        alice.drop_file("bob", "x", &content);
        bob.wait_for_message(&content);
        sent.push(content);
    }
    assert_eq!(bob.heard_from("alice"), [&["hello bob".to_owned()][..], &sent].concat());
    for user in [&alice, &bob] {
        assert_eq!(alerts(user), [""; 0]);
    }
}

/// By withholding it, handing out an older one, another's, or none of it: an alert, and nothing is sent, replaced or reset.
#[test]
fn a_server_that_lies_about_the_counter_causes_an_alert_and_no_rekey() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, mut bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    let (of_alice, of_bob) = (account(&alice), account(&bob));
    let written = |server: &LyingServer, by| -> Vec<Vec<u8>> {
        server.lie(|lies| lies.counters.iter().filter(|(of, _)| *of == by).map(|(_, record)| record.clone()).collect())
    };
    // A second write, so that there is an older one.
    bob.stop();
    bob.start();
    bob.wait_for("a second record", || (written(&server, of_bob).len() > 1).then_some(()));
    let older = written(&server, of_bob)[0].clone();
    let foreign = alice.wait_for("alice's record", || written(&server, of_alice).pop());
    let mut texts = Vec::new();
    for lie in [None, Some(older), Some(foreign)] {
        bob.wait_for_status("connection: connected");
        bob.stop();
        server.lie(|lies| {
            lies.on_counter = Some(Box::new(move |of, written| if of == of_bob { lie.clone() } else { written }))
        });
        bob.start();
        texts.push(bob.wait_for("an alert", || alerts(&bob).into_iter().find(|text| !texts.contains(text))));
        let count = texts.len();
        alice.drop_file("bob", "x", format!("in the session that was, {count}"));
        bob.wait_for_message(&format!("in the session that was, {count}"));
    }
    for (text, says) in texts.iter().zip(["has lost the counter", "has an older counter", "is not what you gave it"]) {
        assert!(text.contains(says), "{text}");
    }
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
    assert_eq!(alerts(&alice), [""; 0]);
    assert_eq!(alerts(&bob).len(), 3);
    bob.stop();
    assert!(!bob.at("keys/recovery").exists());
}

#[test]
fn a_server_that_hands_out_a_prekey_twice_is_told_of_and_silences_nobody_for_good() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob, carol] = friends(&world, &server, ["alice", "bob", "carol"]);
    let victim = account(&bob);
    server.lie(|lies| {
        let mut first = None;
        lies.on_prekey = Some(Box::new(move |of, due, _| match of == victim {
            true => first.get_or_insert(due).clone(),
            false => due,
        }));
    });
    alice.drop_file("bob", "x", "with the prekey");
    bob.wait_for_message("with the prekey");
    assert_eq!(alerts(&bob), [""; 0]);
    carol.drop_file("bob", "x", "with the same one");
    wait_for_alert(&bob, "a one-time prekey of ours that had served already");
    bob.drop_file("carol", "x", "are you there?");
    carol.wait_for_message("are you there?");
    carol.drop_file("bob", "x", "there i am");
    bob.wait_for_message("there i am");
    assert_eq!(bob.heard_from("alice"), ["with the prekey"]);
    assert_eq!(bob.heard_from("carol"), ["there i am"]);
    assert_eq!(alerts(&bob).len(), 1);
}

#[test]
fn a_server_that_says_that_the_prekeys_ran_out_is_told_of_and_the_message_arrives() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    let is_last = |prekey: &&SignedPrekey| prekey.kind == PrekeyKind::LastResort;
    let of_bob = account(&bob);
    let last = bob.wait_for("his last-resort prekey at the server", || {
        server.lie(|lies| lies.uploads.get(&of_bob)?.iter().find(is_last).cloned())
    });
    server.lie(|lies| lies.on_prekey = Some(Box::new(move |of, due, _| if of == of_bob { last.clone() } else { due })));
    alice.drop_file("bob", "x", "by the last resort");
    bob.wait_for_message("by the last resort");
    wait_for_alert(&bob, "handed out the last-resort prekey although");
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
}

/// An opening by the peer, in the name of somebody else whose card it has.
async fn opening_in_the_name_of(peer: &mut Peer, other: &SignedProfile, text: &str) -> Envelope {
    let victim = peer.victim.clone();
    let Ok(Reply::Prekey(prekey)) = peer.ask(Command::TakePrekey(victim.profile().account)).await else { panic!() };
    let now = Timestamp::now();
    let opened = ratchet::open(&peer.keys, *victim.identity(), &prekey, now.micros(), now.seconds(), &mut OsRng);
    let (_, mut first) = opened.unwrap();
    first.opening.as_mut().unwrap().identity = *other.identity();
    first.auth.sender = *other.identity();
    let both = [other.identity().fingerprint(), peer.victim()];
    let payload = Payload {
        conversation: ConversationId::of_participants(&both),
        participants: participants_hash(&both),
        introduction: None,
        ..peer.payload(text)
    };
    envelope::seal(first, &payload.to_bytes(), &mut OsRng).unwrap()
}

#[tokio::test]
async fn who_opens_a_session_in_someones_name_is_not_believed() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    acquaint(&alice, &bob);
    let mut mallory = Peer::new("mallory", &bob).await;
    for known in [false, true] {
        if known {
            fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
        }
        let forged = opening_in_the_name_of(&mut mallory, &profile(&alice), "in alice's name").await;
        mallory.deliver(forged).await;
        let content = format!("genuine, {known}");
        alice.drop_file("bob", "x", &content);
        bob.wait_for_message(&content);
    }
    bob.wait_for("both put aside", || (entries(&bob.at("journal/unopened")).len() == 2).then_some(()));
    assert_eq!(bob.heard_from("alice"), ["hello bob", "genuine, false", "genuine, true"]);
    bob.drop_file("alice", "x", "the session stands");
    alice.wait_for_message("the session stands");
}

/// Carol takes part in a conversation, and is no contact of Bob's any more. Others take her name; what is hers is her keys.
#[tokio::test]
async fn who_takes_the_name_of_a_former_participant_is_not_taken_for_them() {
    let world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    alice.drop_file("bob,carol", "x", "all three");
    bob.wait_for_message("all three");
    carol.wait_for_message("all three");
    carol.drop_file("alice,bob", "x", "carol agrees");
    bob.wait_for_message("carol agrees");
    alice.wait_for_message("carol agrees");
    fs::remove_file(bob.at("contacts/carol.card")).unwrap();
    let mut impostor = Peer::new("carol", &bob).await;
    let group = [&alice, &bob, &carol].map(|user| profile(user).identity().fingerprint());
    let forged = opening_in_the_name_of(&mut impostor, &profile(&carol), "with her card").await;
    impostor.deliver(forged).await;
    let into_the_group = Payload {
        conversation: ConversationId::of_participants(&group),
        participants: participants_hash(&group),
        introduction: None,
        ..impostor.payload("into the group")
    };
    impostor.send(&into_the_group).await;
    impostor.session = None;
    impostor.send(&impostor.payload("by the name alone")).await;
    let request = bob.at(format!("requests/carol~{}", impostor.fingerprint().short(8)));
    bob.wait_for("the impostor in requests/", || {
        entries(&request).iter().any(|path| fs::read(path).is_ok_and(|text| text == b"by the name alone")).then_some(())
    });
    carol.drop_file("alice,bob", "x", "it is me");
    bob.wait_for_message("it is me");
    let contents: Vec<Vec<u8>> = bob.messages().into_iter().map(|(_, _, content)| content).collect();
    assert_eq!(contents, [&b"all three"[..], b"carol agrees", b"it is me"]);
}

/// Mallory, whom both know, with a way to each of them, and her first message of a conversation of the three.
async fn mallory_between(bob: &User, carol: &User, content: &str) -> (Peer, Peer, Payload) {
    let to_bob = Peer::new("mallory", bob).await;
    let mut to_carol = Peer::new("mallory", carol).await;
    (to_carol.keys, to_carol.profile) = (to_bob.keys.clone(), to_bob.profile.clone());
    for user in [bob, carol] {
        fs::write(user.at("contacts/mallory.card"), to_bob.profile.to_string()).unwrap();
    }
    let profiles = vec![to_bob.profile.clone(), profile(bob), profile(carol)];
    let all: Vec<Fingerprint> = profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
    let mut payload = to_bob.payload(content);
    payload.conversation = ConversationId::of_participants(&all);
    payload.participants = participants_hash(&all);
    payload.introduction.as_mut().unwrap().profiles = profiles;
    (to_bob, to_carol, payload)
}

/// Each gets what was sealed to them, under its author's name, and nobody can pass another's message on as its author's. That two
/// got different content shows as soon as one of them writes to the other.
#[tokio::test]
async fn different_content_to_different_participants_is_noticed_and_cannot_be_passed_on() {
    let world = World::new();
    let [mut bob, carol] = world.friends(["bob", "carol"]);
    let (mut to_bob, mut to_carol, mut payload) = mallory_between(&bob, &carol, "we meet at noon").await;
    let for_bob = to_bob.seal(&payload.to_bytes()).await;
    to_bob.deliver(for_bob.clone()).await;
    payload.content.as_mut().unwrap().bytes = b"we meet at nine".to_vec().into();
    to_carol.send(&payload).await;
    bob.wait_for_message("we meet at noon");
    carol.wait_for_message("we meet at nine");
    // Bob's copy is Bob's alone; what he says of it, he says himself.
    to_carol.deliver(for_bob).await;
    carol.wait_for("what is not hers, put aside", || (entries(&carol.at("journal/unopened")).len() == 1).then_some(()));
    bob.drop_file("carol,mallory", "x", "mallory says noon");
    carol.wait_for_message("mallory says noon");
    assert_eq!(carol.heard_from("mallory"), ["we meet at nine"]);
    let text = wait_for_alert(&carol, "bob has another message 1 of mallory in ");
    assert!(text.contains("\nEither mallory sent different things to different people, or "), "{text}");
    // Once, and not for each message behind it.
    bob.drop_file("carol,mallory", "x", "and says it still");
    carol.wait_for_message("and says it still");
    assert_eq!(carol.heard_from("bob"), ["mallory says noon", "and says it still"]);
    let forks = |user: &User| alerts(user).iter().filter(|text| text.contains("another message")).count();
    assert_eq!((forks(&carol), forks(&bob)), (1, 0));
    carol.drop_file("bob,mallory", "x", "he says nine");
    bob.wait_for_message("he says nine");
    wait_for_alert(&bob, "carol has another message 1 of mallory in ");
    assert_eq!((forks(&carol), forks(&bob)), (1, 1));
    bob.stop();
    assert_eq!(bob.heard_from("mallory"), ["we meet at noon"]);
}

/// Two messages under one id: Bob gets one first, Carol the other, and each would drop the one that comes second as the one they know.
/// Both would have the hashes of both, and agree.
#[tokio::test]
async fn two_messages_under_one_id_are_noticed_and_none_vanishes_behind_the_other() {
    let world = World::new();
    let [bob, carol] = world.friends(["bob", "carol"]);
    let (mut to_bob, mut to_carol, mut first) = mallory_between(&bob, &carol, "yes").await;
    first.transcript = Some(Transcript::default());
    let previous = first.transcript_hash(to_bob.fingerprint()).unwrap();
    let mut second = Payload { counter: 2, transcript: Some(Transcript { previous, seen: vec![] }), ..first.clone() };
    second.content.as_mut().unwrap().bytes = b"no".to_vec().into();
    for payload in [&first, &second] {
        to_bob.send(payload).await;
    }
    for payload in [&second, &first] {
        to_carol.send(payload).await;
    }
    for (user, heard, hidden) in [(&bob, "yes", 2), (&carol, "no", 1)] {
        let text = wait_for_alert(user, "mallory sent two different messages under one id in ");
        assert!(text.contains(&format!(": their number {hidden} is not shown.")), "{text}");
        assert_eq!(user.heard_from("mallory"), [heard]);
    }
    // The very same ones once more are no others, and what is not shown counts as missing.
    let mut last = Payload { counter: 3, ..to_bob.payload("last") };
    (last.conversation, last.participants, last.incarnation) =
        (first.conversation, first.participants, first.incarnation);
    (last.introduction, last.transcript) = (None, Some(Transcript { previous: [7; 32], seen: vec![] }));
    for payload in [Payload { resent: 1, ..first }, Payload { resent: 1, ..second }, last] {
        to_bob.send(&payload).await;
    }
    bob.wait_for_message("last");
    assert_eq!(bob.heard_from("mallory"), ["yes", "last"]);
    let directory = bob.wait_for_message("yes").parent().unwrap().to_owned();
    let gaps = bob.wait_for("a gap", || fs::read_to_string(directory.join(".gaps")).ok());
    assert!(gaps.contains(&format!("gap: {} 2 2 ", to_bob.fingerprint())), "{gaps}");
    assert_eq!([alerts(&bob).len(), alerts(&carol).len()], [1, 1]);
}

fn somebody(name: &str, like: &SignedProfile) -> SignedProfile {
    let keys = peer::account();
    let profile =
        Profile { name: name.to_owned(), account: keys.account(), identity: keys.identity(), ..like.profile().clone() };
    SignedProfile::sign(profile, &keys.signing).unwrap()
}

#[tokio::test]
async fn bogus_participants_and_too_many_make_no_conversation_and_nobody_a_contact() {
    let world = World::new();
    let [_alice, bob] = world.friends(["alice", "bob"]);
    let mut mallory = Peer::new("mallory", &bob).await;
    fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
    mallory.send(&mallory.payload("honest")).await;
    bob.wait_for_message("honest");
    let [own, victim] = [mallory.profile.clone(), mallory.victim.clone()];
    let crowd: Vec<SignedProfile> = (0..PARTICIPANTS_MAX).map(|number| somebody(&format!("n{number}"), &own)).collect();
    let with = |mallory: &Peer, profiles: Vec<SignedProfile>| {
        let (salt, mut payload) = ([9; 16], mallory.payload("bogus"));
        let all: Vec<Fingerprint> = profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
        payload.conversation = ConversationId::salted(&salt, &all);
        payload.participants = participants_hash(&all);
        let introduction = payload.introduction.as_mut().unwrap();
        (introduction.profiles, introduction.salt) = (profiles, Some(salt));
        payload.to_bytes()
    };
    let mut forged = with(&mallory, vec![own.clone(), victim.clone(), crowd[0].clone()]).to_vec();
    let signature = crowd[0].as_bytes();
    let at = forged.windows(signature.len()).position(|window| window == signature).unwrap() + signature.len() - 1;
    forged[at] ^= 1;
    let bogus: [Vec<u8>; 5] = [
        // Without its author, without its recipient, with one of them twice, with too many, with a card that is not genuine.
        with(&mallory, vec![victim.clone(), crowd[0].clone()]).to_vec(),
        with(&mallory, vec![own.clone(), crowd[0].clone()]).to_vec(),
        with(&mallory, vec![own.clone(), own.clone(), victim.clone()]).to_vec(),
        with(&mallory, [&crowd[..PARTICIPANTS_MAX - 1], &[own.clone(), victim.clone()]].concat()).to_vec(),
        forged,
    ];
    for (number, payload) in bogus.iter().enumerate() {
        let envelope = mallory.seal(payload).await;
        mallory.deliver(envelope).await;
        bob.wait_for("one more alert", || (entries(&bob.at("alerts")).len() == number + 1).then_some(()));
    }
    assert!(alerts(&bob).iter().all(|text| text.starts_with("A message from mallory was discarded")));
    assert_eq!(entries(&bob.at("conversations")).len(), 1);
    // As many as may be: one conversation more, and they are in it and nowhere else.
    let most = with(&mallory, [&crowd[..PARTICIPANTS_MAX - 2], &[own, victim]].concat());
    let envelope = mallory.seal(&most).await;
    mallory.deliver(envelope).await;
    bob.wait_for_message("bogus");
    assert_eq!(entries(&bob.at("conversations")).len(), 2);
    assert_eq!(entries(&bob.at("contacts")).len(), 2, "alice and mallory");
    assert!(entries(&bob.at("requests")).is_empty());
}

#[tokio::test]
async fn many_strangers_fill_requests_to_its_bound_and_hold_up_no_contact() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let mut stranger = Peer::new("stranger", &bob).await;
    for number in 0..=REQUESTS_MAX {
        // Another account each time, over the same connection.
        stranger.keys = peer::account();
        stranger.profile = {
            let (name, keys) = (format!("s{number}"), &stranger.keys);
            let like = stranger.profile.profile().clone();
            let profile = Profile { name, account: keys.account(), identity: keys.identity(), ..like };
            SignedProfile::sign(profile, &keys.signing).unwrap()
        };
        stranger.session = None;
        stranger.send(&stranger.payload("hello")).await;
    }
    alice.drop_file("bob", "x", "from a contact");
    bob.wait_for_message("from a contact");
    // All of them were in front of it.
    assert_eq!(entries(&bob.at("requests")).len(), REQUESTS_MAX);
    assert_eq!(bob.messages().len(), 1);
    assert_eq!(entries(&bob.at("contacts")).len(), 1);
}

/// What a thief has of a root: the sessions with one peer, the account's keys, the prekeys.
struct Loot {
    keys: AccountKeys,
    sessions: Vec<Session>,
    prekeys: Vec<PrekeySecret>,
}

impl Loot {
    fn of(user: &User, peer: &Identity) -> Self {
        let read = |path: &str| fs::read(user.at(path)).unwrap();
        let (sessions, _) = sessions_from_bytes(&read(&format!("keys/sessions/{}", peer.fingerprint()))).unwrap();
        let keys = AccountKeys::from_bytes(&read("config.pb")).unwrap();
        Self {
            prekeys: prekeys_from_bytes(&read("keys/prekeys")).unwrap().0,
            keys,
            sessions: sessions.into_iter().map(Session::new).collect(),
        }
    }

    /// Whether anything in it opens this.
    fn opens(&mut self, envelope: &Envelope) -> bool {
        let in_session = self.sessions.iter_mut().any(|session| {
            let found = session.header_keys().find_map(|(at, key)| Some((at, envelope::open_header(envelope, key)?)));
            found.is_some_and(|(at, header)| {
                let open = |key, auth: &_| -> Result<(), Box<dyn std::error::Error>> {
                    envelope::open_body(envelope, key)?.payload(envelope, auth, false)?;
                    Ok(())
                };
                session.receive(&self.keys, at, &header, 1, &mut OsRng, open).is_ok()
            })
        });
        let by_prekey = self.prekeys.iter().any(|prekey| {
            let keys = OpeningKeys::derive(&self.keys, prekey, envelope::ephemeral(envelope)).unwrap();
            envelope::open_header(envelope, keys.header_key()).is_some()
        });
        in_session || by_prekey
    }
}

/// The files of a root at one time, all of them, and all that was ever on the wire: what was before does not open, what comes after
/// both have heard something that the other made since does not either, and who opens a session with the stolen keys is noticed.
#[test]
fn a_thief_of_yesterdays_backup_reads_nothing_of_before_or_behind_a_round_trip_and_is_noticed_when_he_opens() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, mut bob] = friends(&world, &server, ["alice", "bob"]);
    acquaint(&alice, &bob);
    for number in 0..3 {
        alice.drop_file("bob", "x", format!("before, {number}"));
        bob.wait_for_message(&format!("before, {number}"));
        bob.drop_file("alice", "x", format!("before, from bob, {number}"));
        alice.wait_for_message(&format!("before, from bob, {number}"));
    }
    let to_bob = account(&bob);
    let seen = || -> Vec<Envelope> {
        server.lie(|lies| {
            lies.seen.iter().filter(|(to, _)| *to == to_bob).map(|(_, envelope)| envelope.clone()).collect()
        })
    };
    // Acknowledgements too are on neither way any more.
    alice.wait_until_delivered(&alice.wait_for_message("before, 2"));
    bob.wait_until_delivered(&bob.wait_for_message("before, from bob, 2"));
    wait_until_fetched(&server, &bob);
    bob.stop();
    let mut loot = Loot::of(&bob, profile(&alice).identity());
    bob.start();
    let before = seen();
    let mut within = Vec::new();
    for number in 0..3 {
        let (asked, answered) = (format!("after, {number}"), format!("after, from bob, {number}"));
        alice.drop_file("bob", "x", &asked);
        bob.wait_for_message(&asked);
        bob.drop_file("alice", "x", &answered);
        alice.wait_for_message(&answered);
        if number == 1 {
            // She has heard what he made after the theft, and what she wrote before that is at the server.
            within = seen().split_off(before.len());
        }
        alice.wait_until_delivered(&alice.wait_for_message(&asked));
        bob.wait_until_delivered(&bob.wait_for_message(&answered));
    }
    let behind = seen().split_off(before.len() + within.len());
    assert!(before.len() > 3 && within.len() > 1 && !behind.is_empty());
    assert!(!before.iter().any(|envelope| loot.opens(envelope)), "of before");
    // What answers the stolen keys, which he had made for his next answer, is the check of the thief.
    assert!(loot.opens(&within[0]));
    assert!(!behind.iter().any(|envelope| loot.opens(envelope)), "behind a round trip");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut thief = Peer::new("bob", &alice).await;
        (thief.keys, thief.profile) = (loot.keys.clone(), profile(&bob));
        thief.send(&thief.payload("it is me, bob")).await;
    });
    wait_for_alert(&alice, "bob opened a new session beside the one that stood");
}
