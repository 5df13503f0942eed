//! Mistakes that a messenger of this kind makes easily, because one did: each test holds the real programs to the
//! opposite.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod lying_server;
mod peer;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use chatterbox::wire::profile::{Profile, SignedProfile};
use lying_server::store::Fate;
use lying_server::wire::{Damage, HANDSHAKE, Harm, Way};
use lying_server::{LyingServer, Trick};
use peer::Peer;
use support::strace::{self, Tracer, calls};
use support::{User, World, entries, is_left_out};

/// The only conversation's twin in the outbox: the daemon made it, so it has a `metadata.toml`.
fn twin(user: &User) -> String {
    user.wait_for("a twin in the outbox", || {
        let directory = entries(&user.at("outbox")).into_iter().find(|path| path.join("metadata.toml").exists())?;
        Some(directory.file_name()?.to_str()?.to_owned())
    })
}

/// All that each has heard of an author, whole, and each message once. An author's own copy is a file a moment after the
/// recipients' may be, so the last is waited for.
fn assert_heard(users: &[&User], author: &str, wanted: &[String]) {
    for user in users {
        wanted.last().into_iter().for_each(|last| drop(user.wait_for_message(last)));
        assert_eq!(user.heard_from(author), wanted, "{}'s, of {author}\n{}", user.name, support::tree(&user.root));
    }
}

fn assert_nothing_amiss(users: &[&User]) {
    for user in users {
        for empty in ["alerts", "requests", "journal/unopened"] {
            assert!(entries(&user.at(empty)).is_empty(), "{empty}\n{}", support::tree(&user.root));
        }
    }
}

fn numbered(count: usize, of: &str) -> Vec<String> {
    (0..count).map(|number| format!("{number} of {of}")).collect()
}

/// A directory with this subject and these people, as a person makes one.
fn open_conversation(user: &User, directory: &str, people: &[&str], content: &str) {
    let draft = user.at("tmp/me").join(directory);
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("metadata.toml"), format!("subject = \"{directory}\"\nparticipants = {people:?}\n")).unwrap();
    fs::write(draft.join("1"), content).unwrap();
    fs::rename(&draft, user.at("outbox").join(directory)).unwrap();
}

/// The mistake: whatever failed while a message was opened, the server's copy was deleted, so that a message that came
/// too early was lost. Here Carol's answer reaches Bob before he has heard of her or of the conversation.
#[test]
fn an_answer_that_overtakes_the_message_that_introduces_its_author_waits_for_it() {
    let world = World::new();
    let (mut of_bob, of_carol) = (world.another_server("server-of-bob"), world.another_server("server-of-carol"));
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &of_bob.address));
    let mut carol = world.user_at("carol", &of_carol.address);
    for other in [&bob, &carol] {
        alice.add(other);
        other.add(&alice);
    }
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(User::start);
    // His account and prekeys are at his server; then it is gone, while what is on its way to him has a session.
    alice.drop_file("bob", "0", "before");
    bob.wait_for_message("before");
    bob.wait_for_status("prekeys: ");
    of_bob.kill();
    open_conversation(&alice, "plans", &["bob", "carol"], "what shall we do?");
    carol.wait_for_message("what shall we do?");
    alice.wait_for_status("trouble: bob: ");
    alice.kill();
    of_bob.start();
    carol.drop_file(&twin(&carol), "1", "swim");
    bob.wait_for("carol's answer at bob's, though nobody introduced her", || {
        let request = entries(&bob.at("requests")).into_iter().next()?;
        entries(&request).iter().any(|path| fs::read(path).is_ok_and(|text| text == b"swim")).then_some(())
    });
    assert!(bob.heard_from("alice") == ["before"]);
    alice.start();
    for user in [&alice, &bob, &carol] {
        user.wait_for_message("what shall we do?");
        user.wait_for_message("swim");
    }
    bob.wait_for("the request to become a conversation", || entries(&bob.at("requests")).is_empty().then_some(()));
    let contents = |user: &User| {
        let mut contents: Vec<_> = user.messages().into_iter().map(|(_, _, content)| content).collect();
        contents.sort();
        contents
    };
    assert_eq!(contents(&bob), [b"before".to_vec(), b"swim".to_vec(), b"what shall we do?".to_vec()], "each once");
    assert_eq!(contents(&carol), [b"swim".to_vec(), b"what shall we do?".to_vec()], "each once");
    assert_nothing_amiss(&[&alice, &bob, &carol]);
}

/// The same mistake where our own state is to blame: a session that is not there opens nothing. What comes meanwhile is
/// kept, and read when the session is back.
#[test]
fn an_envelope_that_no_session_opens_is_kept_until_one_does() {
    kept_until_it_opens(false);
}

#[test]
fn an_envelope_that_was_kept_is_tried_again_though_the_contact_was_added_while_no_daemon_ran() {
    kept_until_it_opens(true);
}

fn kept_until_it_opens(while_off: bool) {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "0", "before");
    bob.wait_for_message("before");
    bob.drop_file(&twin(&bob), "0", "answered");
    alice.wait_for_message("answered");
    bob.stop();
    let session = entries(&bob.at("keys/sessions")).into_iter().next().unwrap();
    let aside = bob.root.with_extension("session");
    fs::rename(&session, &aside).unwrap();
    bob.start();
    let early = numbered(3, "alice");
    for (number, content) in early.iter().enumerate() {
        alice.move_file("bob", &number.to_string(), content);
    }
    bob.wait_for("envelopes that do not open", || {
        // Besides what Alice acknowledges.
        (entries(&bob.at("journal/unopened")).len() >= early.len()).then_some(())
    });
    // Also across a kill. A contact that is added may open what did not open before.
    bob.kill();
    fs::rename(&aside, &session).unwrap();
    let carol = world.user("carol");
    if while_off {
        bob.add(&carol);
    }
    bob.start();
    bob.wait_for_status(&format!("pid: {}", bob.daemon.as_ref().unwrap().pid()));
    if !while_off {
        bob.add(&carol);
    }
    early.iter().for_each(|content| drop(bob.wait_for_message(content)));
    let mut heard = bob.heard_from("alice");
    heard.sort();
    assert_eq!(heard, [&early[..], &["before".to_owned()]].concat(), "each once");
    bob.wait_for("nothing that is kept", || entries(&bob.at("journal/unopened")).is_empty().then_some(()));
    alice.drop_file("bob", "4", "and on");
    bob.wait_for_message("and on");
}

/// The mistake: session, prekeys and text of a first message were stored one after the other, and a crash in between
/// lost it.
#[test]
fn first_messages_survive_a_kill_right_after_their_file_has_left_the_outbox() {
    let world = World::new();
    for round in 0..4 {
        let names = ["alice", "bob"].map(|name| format!("{name}{round}"));
        let [mut alice, mut bob] = names.each_ref().map(|name| world.user(name));
        alice.add(&bob);
        bob.add(&alice);
        alice.start();
        // Every other time both have a pool of prekeys before anything is sent, or the recipient comes last.
        if round % 2 == 0 {
            bob.start();
            bob.wait_for_status("prekeys: ");
        }
        alice.drop_file(&names[1], "1", "first");
        alice.wait_until_gone(Path::new("outbox").join(&names[1]).join("1"));
        alice.kill();
        if round % 2 != 0 {
            bob.start();
        }
        bob.drop_file(&names[0], "1", "back");
        bob.wait_until_gone(Path::new("outbox").join(&names[0]).join("1"));
        bob.kill();
        alice.start();
        alice.drop_file(&names[1], "2", "second");
        alice.wait_until_gone(Path::new("outbox").join(&names[1]).join("2"));
        alice.kill();
        bob.start();
        alice.start();
        for user in [&alice, &bob] {
            ["first", "back", "second"].iter().for_each(|content| drop(user.wait_for_message(content)));
        }
        alice.wait_for_status("queue: 0");
        bob.wait_for_status("queue: 0");
        // What would come twice is in front of these.
        alice.drop_file(&names[1], "3", "third");
        bob.wait_for_message("third");
        bob.drop_file(&names[0], "3", "last");
        alice.wait_for_message("last");
        assert_heard(&[&alice, &bob], &names[0], &["first", "second", "third"].map(str::to_owned));
        assert_heard(&[&alice, &bob], &names[1], &["back", "last"].map(str::to_owned));
        assert_nothing_amiss(&[&alice, &bob]);
    }
}

/// The mistake: the ratchet moved on before the upload and the ciphertext was not kept. A few sends that failed, or one
/// file that is too large, and the conversation never decrypted again and blocked its outbox.
#[test]
fn many_sends_to_a_server_that_is_away_and_a_file_too_large_do_not_harm_the_conversation() {
    let mut world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    let (mut by_alice, mut by_bob) = (numbered(41, "alice"), numbered(21, "bob"));
    alice.drop_file("bob", "0", &by_alice[0]);
    bob.wait_for_message(&by_alice[0]);
    bob.drop_file("alice", "0", &by_bob[0]);
    alice.wait_for_message(&by_bob[0]);
    world.server.kill();
    alice.wait_for_status("connection: not connected");
    for (number, content) in by_alice.iter().enumerate().skip(1) {
        alice.move_file("bob", &number.to_string(), content);
        if number == 20 {
            fs::File::create(alice.at("outbox/bob/large")).unwrap().set_len((64 << 20) + 1).unwrap();
            alice.wait_for_file("outbox/bob/large.error");
            // Tries that were made are forgotten, and made again.
            alice.wait_for_status("trouble: bob: ");
            alice.kill();
            alice.start();
        }
    }
    for (number, content) in by_bob.iter().enumerate().skip(1) {
        bob.move_file("alice", &number.to_string(), content);
    }
    alice.wait_until_gone("outbox/bob/40");
    bob.wait_until_gone("outbox/alice/20");
    world.server.start();
    bob.wait_for_message(&by_alice[40]);
    alice.wait_for_message(&by_bob[20]);
    assert!(alice.at("outbox/bob/large.error").exists() && alice.at("outbox/bob/large").exists());
    fs::write(alice.at("outbox/bob/large"), "small by now").unwrap();
    bob.wait_for_message("small by now");
    alice.wait_until_gone("outbox/bob/large.error");
    by_alice.push("small by now".to_owned());
    for round in 0..4 {
        let content = format!("and on, {round}");
        alice.drop_file("bob", "on", &content);
        bob.wait_for_message(&content);
        by_alice.push(content.clone());
        bob.drop_file("alice", "on", &content);
        alice.wait_for("bob's", || (alice.heard_from("bob").len() == by_bob.len() + 1).then_some(()));
        by_bob.push(content);
    }
    assert_heard(&[&alice, &bob], "alice", &by_alice);
    assert_heard(&[&alice, &bob], "bob", &by_bob);
    assert_nothing_amiss(&[&alice, &bob]);
}

/// The mistake: a backlog was handled out of order, beyond the few keys that were kept for messages that were skipped,
/// so that half of a burst was lost.
#[test]
fn a_backlog_of_hundreds_from_several_people_arrives_whole_and_in_each_ones_order() {
    const EACH: usize = 100;
    let world = World::new();
    let [mut alice, bob, carol, dave] = world.friends(["alice", "bob", "carol", "dave"]);
    let senders = [&bob, &carol, &dave];
    for sender in senders {
        sender.drop_file("alice", "0", format!("0 of {}", sender.name));
        alice.wait_for_message(&format!("0 of {}", sender.name));
    }
    alice.stop();
    for number in 1..EACH {
        for sender in senders {
            sender.move_file("alice", &number.to_string(), format!("{number} of {}", sender.name));
        }
    }
    for sender in senders {
        sender.wait_for("everything at the server", || {
            let status = fs::read_to_string(sender.at("status")).ok()?;
            (status.contains("\nqueue: 0\n") && sender.heard_from(&sender.name).len() == EACH).then_some(())
        });
    }
    alice.start();
    alice.wait_for("all of them", || (alice.messages().len() >= EACH * senders.len()).then_some(()));
    for sender in senders {
        assert_heard(&[&alice, sender], &sender.name, &numbered(EACH, &sender.name));
    }
    assert_nothing_amiss(&[&alice, &bob, &carol, &dave]);
}

/// The same mistake, at its worst: hundreds of envelopes that come last to first, each of them further from where its chain
/// stood than the predecessor kept keys for; those of a first conversation too, whose opening comes behind all.
#[test]
fn a_backlog_that_comes_backwards_arrives_whole_and_in_each_ones_order() {
    const EACH: usize = 220;
    let (world, server) = (World::new(), LyingServer::start());
    let mut users = ["alice", "bob", "carol"].map(|name| world.user_at(name, &server.address));
    for one in 0..users.len() {
        (0..users.len()).filter(|other| *other != one).for_each(|other| users[one].add(&users[other]));
        // So that nothing but their messages is withheld.
        users[one].set("acknowledge = false");
    }
    users.iter_mut().for_each(User::start);
    let [mut alice, bob, carol] = users;
    bob.drop_file("alice", "0", "0 of bob");
    alice.wait_for_message("0 of bob");
    alice.drop_file("bob", "0", "0 of alice");
    bob.wait_for_message("0 of alice");
    alice.stop();
    server.lie(|lies| lies.on_delivery = Some(Box::new(|_| Fate::Withheld)));
    for (sender, first) in [(&bob, 1), (&carol, 0)] {
        for number in first..EACH {
            sender.move_file("alice", &number.to_string(), format!("{number} of {}", sender.name));
        }
    }
    let wanted = 2 * EACH - 1;
    alice.wait_for("everything at the server", || server.lie(|lies| lies.withheld.len() == wanted).then_some(()));
    let withheld = server.lie(|lies| std::mem::take(&mut lies.withheld));
    withheld.into_iter().rev().for_each(|(to, envelope)| server.deliver(to, envelope));
    alice.start();
    alice.wait_for("all of them", || (alice.messages().len() > wanted + 1).then_some(()));
    for sender in [&bob, &carol] {
        assert_heard(&[&alice, sender], &sender.name, &numbered(EACH, &sender.name));
    }
    assert_nothing_amiss(&[&alice, &bob, &carol]);
}

/// The mistake: messages were named by their file's modification time, and two of the same time overwrote each other,
/// with the sender and with the recipient.
#[test]
fn files_of_one_modification_time_do_not_overwrite_each_other() {
    const EACH: usize = 40;
    let world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    let time = SystemTime::now() - Duration::from_secs(3_600);
    let drop_all = |user: &User, to: &str, first: usize| {
        for number in first..first + EACH {
            let draft = user.at("tmp/draft");
            fs::write(&draft, format!("{number} of {}", user.name)).unwrap();
            fs::File::options().write(true).open(&draft).unwrap().set_modified(time).unwrap();
            fs::create_dir_all(user.at("outbox").join(to)).unwrap();
            fs::rename(&draft, user.at("outbox").join(to).join(format!("{number}.txt"))).unwrap();
        }
    };
    // Found by a look at the directory, at both sides at once; then as they come.
    alice.stop();
    bob.stop();
    drop_all(&alice, "bob", 0);
    drop_all(&bob, "alice", 0);
    alice.start();
    bob.start();
    for user in [&alice, &bob] {
        user.wait_for("both halves", || (user.messages().len() > 2 * EACH).then_some(()));
    }
    drop_all(&alice, "bob", EACH);
    drop_all(&bob, "alice", EACH);
    for user in [&alice, &bob] {
        user.wait_for("all of them", || (user.messages().len() > 4 * EACH).then_some(()));
    }
    let before = ["before".to_owned()];
    assert_heard(&[&alice, &bob], "alice", &[&before[..], &numbered(2 * EACH, "alice")].concat());
    assert_heard(&[&alice, &bob], "bob", &numbered(2 * EACH, "bob"));
    let names = |user: &User| user.messages().into_iter().map(|(_, name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&alice), names(&bob), "both know each by the same name");
}

/// The mistake: a send that failed for the third recipient was sent to the first two again.
#[test]
fn while_one_of_three_recipients_servers_is_down_the_others_get_each_message_once() {
    let world = World::new();
    let (of_bob, of_carol) = (world.another_server("server-of-bob"), world.another_server("server-of-carol"));
    let mut of_dave = world.another_server("server-of-dave");
    let mut alice = world.user("alice");
    let mut bob = world.user_at("bob", &of_bob.address);
    let mut carol = world.user_at("carol", &of_carol.address);
    let mut dave = world.user_at("dave", &of_dave.address);
    for user in [&bob, &carol, &dave] {
        alice.add(user);
        user.add(&alice);
    }
    [&mut alice, &mut bob, &mut carol, &mut dave].into_iter().for_each(User::start);
    let mut sent = numbered(21, "alice");
    alice.drop_file("bob,carol,dave", "0", &sent[0]);
    for user in [&bob, &carol, &dave] {
        user.wait_for_message(&sent[0]);
    }
    of_dave.kill();
    for (number, content) in sent.iter().enumerate().skip(1) {
        alice.move_file("bob,carol,dave", &number.to_string(), content);
        if number == 10 {
            alice.wait_for_status("trouble: ");
            alice.kill();
            alice.start();
        }
    }
    for user in [&bob, &carol] {
        user.wait_for_message(sent.last().unwrap());
    }
    alice.wait_for_status("trouble: dave: ");
    alice.wait_for_status("queue: 20");
    assert_heard(&[&bob, &carol], "alice", &sent);
    assert_heard(&[&dave], "alice", &sent[..1]);
    of_dave.start();
    dave.wait_for_message(sent.last().unwrap());
    alice.wait_for_status("queue: 0");
    // What would come twice is in front of this.
    alice.drop_file("bob,carol,dave", "last", "last");
    sent.push("last".to_owned());
    for user in [&bob, &carol, &dave] {
        user.wait_for_message("last");
    }
    assert_heard(&[&alice, &bob, &carol, &dave], "alice", &sent);
    assert_nothing_amiss(&[&alice, &bob, &carol, &dave]);
}

/// The mistake: nothing was ever synced. Here the sender's file leaves the outbox, and the recipient's message appears,
/// only behind a sync of the record that holds it.
#[test]
fn no_file_leaves_the_outbox_and_no_message_appears_before_its_record_is_synced() {
    if is_left_out(strace::missing()) {
        return;
    }
    let world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    let options = ["-e".to_owned(), "trace=openat,fdatasync,rename,renameat2,unlink".to_owned()];
    let traced = [&alice, &bob].map(|user| {
        let log = strace::log_in(world.scratch.path(), &user.name);
        (Tracer::attach_with(user.daemon.as_ref().unwrap(), &log, &options), log)
    });
    let contents = numbered(12, "alice");
    for (number, content) in contents.iter().enumerate() {
        alice.move_file("bob", &format!("{number}.txt"), content);
        // Some alone, some together.
        if number < 6 {
            bob.wait_for_message(content);
        }
    }
    contents.iter().for_each(|content| drop(bob.wait_for_message(content)));
    contents.iter().for_each(|content| drop(alice.wait_for_message(content)));
    (0..contents.len()).for_each(|number| alice.wait_until_gone(format!("outbox/bob/{number}.txt")));
    let names: Vec<String> = bob.messages().into_iter().map(|(_, name, _)| name).filter(|n| n.len() > 32).collect();
    assert_eq!(names.len(), contents.len());
    alice.stop();
    bob.stop();
    let logs = traced.map(|(tracer, log)| {
        tracer.wait();
        calls(&log)
    });
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    for number in 0..contents.len() {
        let file = quoted(&alice.at(format!("outbox/bob/{number}.txt")));
        let of = |call: &strace::Call, name: &str| call.name == name && call.rest.contains(&file);
        let read = logs[0].iter().position(|call| of(call, "openat")).unwrap();
        let left = logs[0].iter().position(|call| of(call, "renameat2")).unwrap();
        let synced = logs[0][read..left].iter().any(|call| call.name == "fdatasync" && call.rest.contains("/log-"));
        assert!(synced, "{:#?}", &logs[0][read..left]);
    }
    for (user, calls) in [&alice, &bob].into_iter().zip(&logs) {
        for name in &names {
            let appears = |call: &strace::Call| call.name == "renameat2" && call.rest.contains(&format!("/{name}\""));
            let appeared = calls.iter().position(appears).unwrap();
            // Both names stand in the call, the scratch name first.
            let scratch = calls[appeared].rest.split('"').nth(1).unwrap();
            let written = calls.iter().position(|call| call.name == "openat" && call.rest.contains(scratch)).unwrap();
            let between = &calls[written..appeared];
            let synced = between.iter().any(|call| call.name == "fdatasync" && call.rest.contains("/log-"));
            assert!(synced, "{} {name}: {between:#?}", user.name);
        }
    }
}

/// The mistake: the kernel was asked to watch every message, until it refused.
#[test]
fn what_the_daemon_watches_does_not_grow_with_the_messages() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "there");
    bob.wait_for_message("there");
    bob.drop_file(&twin(&bob), "x", "back");
    alice.wait_for_message("back");
    // `contacts/`, `blocked/`, `dropboxes/`, `outbox/`, and what is in it, `.cancel/` too.
    let watches = |user: &User| user.daemon.as_ref().unwrap().inotify_watches();
    let wanted = |user: &User| 4 + entries(&user.at("outbox")).iter().filter(|path| path.is_dir()).count();
    for user in [&alice, &bob] {
        user.wait_for("a watch for each outbox directory", || (watches(user) == wanted(user)).then_some(()));
    }
    let before = [watches(&alice), watches(&bob)];
    for number in 0..60 {
        alice.move_file("bob", &format!("{number}.txt"), format!("{number} of alice"));
        bob.move_file("alice", &format!("{number}.txt"), format!("{number} of bob"));
    }
    for user in [&alice, &bob] {
        user.wait_for("all of them", || (user.messages().len() == 122).then_some(()));
        user.wait_for_status("queue: 0");
    }
    // Bob wrote to `outbox/alice` too, which is one more.
    assert_eq!([watches(&alice), watches(&bob)], [before[0], before[1] + 1]);
}

/// The mistake: both write first, each overwrites the other's session, and both directions are dead.
#[test]
fn when_both_write_first_both_directions_live() {
    let world = World::new();
    let of_bob = world.another_server("server-of-bob");
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &of_bob.address));
    alice.add(&bob);
    bob.add(&alice);
    alice.drop_file("bob", "0", "0 of alice");
    bob.drop_file("alice", "0", "0 of bob");
    alice.start();
    bob.start();
    for number in 0..3 {
        alice.wait_for_message(&format!("{number} of bob"));
        bob.wait_for_message(&format!("{number} of alice"));
        alice.drop_file("bob", "next", format!("{} of alice", number + 1));
        bob.drop_file("alice", "next", format!("{} of bob", number + 1));
    }
    alice.wait_for_message("3 of bob");
    bob.wait_for_message("3 of alice");
    assert_heard(&[&alice, &bob], "alice", &numbered(4, "alice"));
    assert_heard(&[&alice, &bob], "bob", &numbered(4, "bob"));
    assert_nothing_amiss(&[&alice, &bob]);
}

/// The mistake: an unknown recipient ended the daemon, at every restart again; so did a peer that hung up in the handshake.
/// (An emptied state file stops it with a message, until it is back: `bad_input`.)
#[test]
fn an_unknown_recipient_and_peers_that_hang_up_in_the_handshake_end_no_daemon_and_no_server() {
    let (world, server) = (World::new(), LyingServer::start());
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &server.address));
    alice.add(&bob);
    bob.add(&alice);
    // Nothing, half an ephemeral key, a whole one, half a proof, a handshake and no more.
    let ends = [0, 16, 32, 100, HANDSHAKE].map(|at| Trick::Wire(Damage { way: Way::ToClient, at, harm: Harm::End }));
    let mut ends = ends.into_iter().peekable();
    for length in [0, 16, 32, 100] {
        let connect = || TcpStream::connect(world.server.listen_address()).ok();
        let mut stream = support::wait_for(world.scratch.path(), "the server to listen", connect);
        stream.write_all(&vec![7; length]).unwrap();
    }
    let mut sent = Vec::new();
    while ends.peek().is_some() || server.tricks_left() > 0 {
        server.play(ends.by_ref().take(2));
        for user in [&mut alice, &mut bob] {
            user.drop_file("nobody", "x", "to nobody");
            user.start();
            user.wait_for_file("outbox/nobody.error");
        }
        let content = format!("{} of both", sent.len());
        alice.drop_file("bob", "x", &content);
        bob.drop_file("alice", "x", &content);
        sent.push(content);
        for user in [&alice, &bob] {
            user.wait_for("both", || (user.messages().len() == 2 * sent.len()).then_some(()));
        }
        for user in [&mut alice, &mut bob] {
            assert!(user.daemon.as_mut().unwrap().is_running());
            user.kill();
        }
    }
    for author in ["alice", "bob"] {
        assert_heard(&[&alice, &bob], author, &sent);
    }
    assert_nothing_amiss(&[&alice, &bob]);
}

/// The mistake: every message read every contact's state from the disk.
#[test]
fn what_a_received_message_reads_from_the_disk_does_not_grow_with_the_contacts() {
    if is_left_out(strace::missing()) {
        return;
    }
    let [few, many] = [3, 300].map(read_for_messages);
    assert_eq!(few, many);
    let holds_state = |path: &String| ["keys", "contacts"].iter().any(|directory| path.starts_with(directory));
    assert!(!many.iter().any(holds_state), "{many:?}");
}

/// Receives messages from the last of so many contacts, all of whom have a session with us, and hands out which files below the
/// root were read meanwhile. Theirs is called by one name whoever they are.
fn read_for_messages(contacts: usize) -> BTreeSet<String> {
    let world = World::new();
    let mut alice = world.user("alice");
    alice.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut peer = runtime.block_on(Peer::new("peer", &alice));
    for number in 0..contacts {
        // Another account each time, over the same connection.
        peer.keys = peer::account();
        let (name, account) = (format!("n{number}"), peer.keys.account());
        let profile = Profile { name, account, identity: peer.keys.identity(), ..peer.profile.profile().clone() };
        peer.profile = SignedProfile::sign(profile, &peer.keys.signing).unwrap();
        fs::write(alice.at(format!("contacts/n{number}.card")), peer.profile.to_string()).unwrap();
        peer.session = None;
        let payload = peer.payload(&format!("hello of {number}"));
        runtime.block_on(peer.send(&payload));
    }
    alice.wait_for("all of them", || (alice.messages().len() == contacts).then_some(()));
    alice.stop();
    assert_eq!(entries(&alice.at("keys/sessions")).len(), contacts);
    alice.start();
    alice.wait_for_status("connection: connected");
    let log = strace::log_in(world.scratch.path(), "alice");
    let options = ["-e".to_owned(), "trace=openat,openat2,open".to_owned()];
    let tracer = Tracer::attach_with(alice.daemon.as_ref().unwrap(), &log, &options);
    for number in 0..10 {
        let content = format!("number {number}");
        let payload = peer.payload(&content);
        runtime.block_on(peer.send(&payload));
        alice.wait_for_message(&content);
    }
    alice.kill();
    tracer.wait();
    let calls = calls(&log);
    assert!(calls.len() >= 10, "{calls:?}");
    let root = format!("\"{}", alice.root.display());
    let is_read = |call: &&strace::Call| call.rest.contains("O_RDONLY") && !call.rest.contains("O_DIRECTORY");
    let below = calls
        .iter()
        .filter(is_read)
        .filter_map(|call| Some(call.rest.split_once(&root)?.1.split_once('"')?.0.trim_start_matches('/')));
    let last = [format!("n{}", contacts - 1), peer.fingerprint().to_string()];
    let mut files: Vec<String> =
        below.map(|path| last.iter().fold(path.to_owned(), |path, last| path.replace(last, "LAST"))).collect();
    // Once after a start each conversation is asked whose it is, a few a second, and once where something in it is acknowledged
    // before that; whether messages come or not.
    let is_look = |path: &str| path.starts_with("conversations/") && path.ends_with("/metadata.toml");
    files.sort();
    let looks: Vec<&String> = files.iter().filter(|path| is_look(path) && !path.contains("LAST")).collect();
    assert!(looks.windows(3).all(|same| same[0] != same[2]), "{looks:?}");
    files.into_iter().filter(|path| !is_look(path)).collect()
}
