//! From one person's outbox to another's conversations, through the real programs.

#![cfg(all(feature = "daemon", feature = "server"))]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{World, entries};

#[test]
fn a_file_dropped_in_the_outbox_becomes_a_file_in_the_conversation() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "hi\n");
    let received = bob.wait_for_message("hi\n");
    alice.wait_until_gone("outbox/bob/x");
    let kept = alice.wait_for_message("hi\n");
    assert_eq!(received.file_name(), kept.file_name(), "both sides know it by the same name");
    let name = received.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("Z-alice") && !name.contains(':'), "{name}");
    assert_eq!(fs::metadata(&received).unwrap().permissions().mode() & 0o777, 0o600);

    let conversation = alice.directory("conversations", "-alice-bob");
    assert_eq!(conversation.file_name(), bob.directory("conversations", "-alice-bob").file_name());
    let metadata: toml::Table = fs::read_to_string(conversation.join("metadata.toml")).unwrap().parse().unwrap();
    let of_bob = fs::read_to_string(bob.directory("conversations", "-alice-bob").join("metadata.toml")).unwrap();
    assert_eq!(metadata["id"], of_bob.parse::<toml::Table>().unwrap()["id"]);
    assert_eq!(metadata["participants"], toml::Value::from(vec!["alice", "bob"]));

    let delivery = alice.wait_until_delivered(&kept);
    let starts: Vec<&str> = delivery.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(starts, ["id", "from", "counter", "file", "outbox", "to"]);
    assert!(delivery.contains("\noutbox: outbox/bob/x\n") && delivery.contains("\ncounter: 1\n"), "{delivery}");
    assert!(bob.delivery(&received).contains(" alice\ncounter: 1\n"));
}

#[test]
fn a_reply_is_dropped_into_the_directory_that_the_daemon_made() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.move_file("bob", "question.txt", "lunch?");
    let question = bob.wait_for_message("lunch?");
    assert!(question.to_str().unwrap().ends_with("Z-alice-question.txt"));
    let outbox = bob.directory("outbox", "-alice-bob");
    fs::write(outbox.join("answer"), "yes").unwrap();
    let answer = alice.wait_for_message("yes");
    assert_eq!(answer.parent(), Some(alice.directory("conversations", "-alice-bob").as_path()));
    // The directory made by hand goes on working beside its twin, and means the same conversation.
    alice.drop_file("bob", "x", "when?");
    fs::write(alice.directory("outbox", "-alice-bob").join("y"), "where?").unwrap();
    bob.wait_for_message("when?");
    bob.wait_for_message("where?");
    assert_eq!(entries(&bob.at("conversations")).len(), 1);
    assert_eq!(entries(&alice.at("conversations")).len(), 1);
}

#[test]
fn a_conversation_made_by_hand_has_the_subject_of_its_metadata() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let draft = alice.at("tmp/me/plans");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("metadata.toml"), "subject = \"the plan / 2\"\nparticipants = [\"bob\"]\n").unwrap();
    fs::write(draft.join("1"), "first").unwrap();
    fs::rename(&draft, alice.at("outbox/plans")).unwrap();
    let received = bob.wait_for_message("first");
    let directory = received.parent().unwrap();
    assert!(directory.to_str().unwrap().ends_with("-alice-bob_the plan %2F 2"), "{}", directory.display());
    let metadata = fs::read_to_string(directory.join("metadata.toml")).unwrap();
    assert!(metadata.contains("subject = \"the plan / 2\""), "{metadata}");
    // It is not the conversation of `outbox/bob`, and the directory stays ours.
    alice.drop_file("bob", "x", "elsewhere");
    let elsewhere = bob.wait_for_message("elsewhere");
    assert_ne!(elsewhere.parent(), received.parent());
    fs::rename(alice.at("outbox/plans"), alice.at("outbox/renamed")).unwrap();
    alice.drop_file("renamed", "2", "second");
    assert_eq!(bob.wait_for_message("second").parent(), received.parent());
    let kept = fs::read_to_string(alice.at("outbox/renamed/metadata.toml")).unwrap();
    assert_eq!(kept, "subject = \"the plan / 2\"\nparticipants = [\"bob\"]\n", "a person's file is never touched");
}

#[test]
fn three_answer_each_other_though_two_of_them_hold_no_card_of_each_other() {
    let world = World::new();
    let (mut alice, mut bob, mut carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    for other in [&bob, &carol] {
        alice.add(other);
        other.add(&alice);
    }
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(support::User::start);
    alice.drop_file("bob,carol", "x", "hello both");
    bob.wait_for_message("hello both");
    carol.wait_for_message("hello both");
    let outbox = entries(&bob.at("outbox")).into_iter().find(|path| path.join("metadata.toml").exists()).unwrap();
    fs::write(outbox.join("x"), "bob here").unwrap();
    let heard = carol.wait_for_message("bob here");
    alice.wait_for_message("bob here");
    assert!(heard.file_name().unwrap().to_str().unwrap().contains("Z-bob~"), "{}", heard.display());
    let outbox = entries(&carol.at("outbox")).into_iter().find(|path| path.join("metadata.toml").exists()).unwrap();
    fs::write(outbox.join("x"), "carol here").unwrap();
    bob.wait_for_message("carol here");
    alice.wait_for_message("carol here");
    for user in [&alice, &bob, &carol] {
        assert_eq!(entries(&user.at("conversations")).len(), 1, "{}", user.name);
        assert!(entries(&user.at("requests")).is_empty(), "{}", user.name);
    }
}

#[test]
fn a_strangers_message_waits_with_their_card_until_it_is_added() {
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    alice.start();
    bob.start();
    alice.drop_file("bob", "x.txt", "we have not met");
    let card = bob.wait_for("a request", || {
        let request = entries(&bob.at("requests")).into_iter().next()?;
        entries(&request)
            .iter()
            .any(|path| fs::read(path).is_ok_and(|text| text == b"we have not met"))
            .then_some(())?;
        Some(request.join("card"))
    });
    let name = card.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("alice~") && name.len() == "alice~".len() + 8, "{name}");
    assert!(entries(&bob.at("conversations")).is_empty());
    assert_eq!(fs::read_to_string(&card).unwrap(), alice.card());
    // Also across a restart of the daemon.
    bob.stop();
    bob.start();
    fs::rename(&card, bob.at("contacts/ally.card")).unwrap();
    let accepted = bob.wait_for_message("we have not met");
    assert!(accepted.to_str().unwrap().ends_with("Z-ally-x.txt"), "{}", accepted.display());
    bob.wait_for("the request to go", || entries(&bob.at("requests")).is_empty().then_some(()));
    let is_conversation = |path: &std::path::PathBuf| path.join("metadata.toml").exists();
    let outbox = entries(&bob.at("outbox")).into_iter().find(is_conversation).unwrap();
    fs::write(outbox.join("x"), "now we have").unwrap();
    alice.wait_for_message("now we have");
    alice.drop_file("bob", "y", "indeed");
    bob.wait_for_message("indeed");
}

#[test]
fn who_holds_not_all_cards_of_a_group_answers_all_of_it_by_its_name() {
    let world = World::new();
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|name| world.user(name));
    [(&alice, &bob), (&alice, &carol), (&bob, &alice), (&carol, &alice)].iter().for_each(|(one, other)| one.add(other));
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(support::User::start);
    alice.drop_file("bob,carol", "x", "to both");
    carol.wait_for_message("to both");
    let message = bob.wait_for_message("to both");
    let name = message.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.contains("carol~"), "{name}");
    // It is made behind the message.
    bob.wait_for_file(format!("outbox/{name}/metadata.toml"));
    let sent = bob.cli_with_input(&["send", &name], b"from bob");
    assert!(sent.status.success(), "{sent:?}");
    alice.wait_for_message("from bob");
    let arrived = carol.wait_for_message("from bob");
    assert_eq!(arrived.parent(), carol.wait_for_message("to both").parent());
}

#[test]
fn what_is_dropped_while_the_server_is_away_is_sent_when_it_is_back() {
    let mut world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "1", "before");
    bob.wait_for_message("before");
    world.server.kill();
    alice.wait_for_status("connection: not connected");
    bob.wait_for_status("connection: not connected");
    alice.drop_file("bob", "2", "meanwhile");
    alice.wait_until_gone("outbox/bob/2");
    alice.wait_for_status("trouble: bob: ");
    world.server.start();
    bob.wait_for_message("meanwhile");
    alice.wait_for_status("queue: 0");
    alice.wait_for_status("connection: connected");
    bob.drop_file("alice", "3", "after");
    alice.wait_for_message("after");
    assert_eq!(bob.heard_from("alice"), ["before", "meanwhile"]);
}

#[test]
fn a_daemon_that_was_off_gets_everything_in_order_when_it_starts() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "0", "0");
    bob.wait_for_message("0");
    bob.stop();
    let numbers: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for number in &numbers[1..] {
        alice.drop_file("bob", number, number);
    }
    alice.wait_for("an empty queue", || {
        let text = fs::read_to_string(alice.at("status")).ok()?;
        (text.contains("queue: 0\n") && alice.heard_from("alice").len() == numbers.len()).then_some(())
    });
    bob.start();
    bob.wait_for("all of them", || (bob.messages().len() >= numbers.len()).then_some(()));
    assert_eq!(bob.heard_from("alice"), numbers);
}

#[test]
fn what_the_server_acknowledged_survives_kill_9_of_the_server_and_of_both_daemons() {
    let mut world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "first", "0");
    bob.wait_for_message("0");
    let numbers: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    for (position, number) in numbers.iter().enumerate().skip(1) {
        alice.drop_file("bob", number, number);
        match position % 40 {
            10 => {
                alice.kill();
                alice.start();
            }
            20 => {
                bob.kill();
                bob.start();
            }
            30 => {
                world.server.kill();
                world.server.start();
            }
            _ => {}
        }
    }
    bob.wait_for("all of them", || (bob.messages().len() >= numbers.len()).then_some(()));
    alice.wait_for_status("queue: 0");
    let mut heard = bob.heard_from("alice");
    heard.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(heard, numbers, "each once");
    alice.wait_for("her own copies", || (alice.heard_from("alice").len() >= numbers.len()).then_some(()));
    assert_eq!(alice.heard_from("alice").len(), numbers.len());
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&alice.at("alerts")).is_empty());
}

#[test]
fn people_at_different_servers_reach_each_other() {
    let world = World::new();
    let other = world.another_server("other");
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &other.address));
    alice.add(&bob);
    bob.add(&alice);
    // Alice may write before Bob's daemon has ever run: his account does not exist at his server yet.
    alice.start();
    alice.drop_file("bob", "x", "early");
    alice.wait_for_status("trouble: bob: ");
    bob.start();
    bob.wait_for_message("early");
    bob.drop_file("alice", "x", "bird");
    alice.wait_for_message("bird");
    alice.wait_for_status("queue: 0");
}

#[test]
fn both_may_write_first_at_the_same_time() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("prekeys: 100");
    bob.wait_for_status("prekeys: 100");
    alice.drop_file("bob", "x", "from alice");
    bob.drop_file("alice", "x", "from bob");
    bob.wait_for_message("from alice");
    alice.wait_for_message("from bob");
    for round in 0..5 {
        alice.drop_file("bob", "x", format!("alice {round}"));
        bob.wait_for_message(&format!("alice {round}"));
        bob.drop_file("alice", "x", format!("bob {round}"));
        alice.wait_for_message(&format!("bob {round}"));
    }
    assert_eq!(entries(&alice.at("conversations")).len(), 1);
}

#[test]
fn a_renamed_conversation_is_followed_and_a_deleted_one_made_anew() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "1", "one");
    bob.wait_for_message("one");
    let renamed = bob.at("conversations/renamed");
    fs::rename(bob.directory("conversations", "-alice-bob"), &renamed).unwrap();
    alice.drop_file("bob", "2", "two");
    assert_eq!(bob.wait_for_message("two").parent(), Some(renamed.as_path()));
    support::remove_tree(&renamed);
    alice.drop_file("bob", "3", "three");
    bob.wait_for_message("three");
    assert_eq!(bob.heard_from("alice"), ["three"]);
    assert!(bob.directory("conversations", "-alice-bob").join("metadata.toml").exists());
}

#[test]
fn a_server_that_closes_an_idle_connection_is_no_trouble() {
    let mut world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    alice.wait_for_status("queue: 0");
    world.server.kill();
    alice.wait_for_status("connection: not connected");
    world.server.start();
    alice.wait_for_status("connection: connected");
    alice.drop_file("bob", "x", "after");
    bob.wait_for_message("after");
    // It had nothing under way, so nothing failed: the next message opened another.
    assert!(!alice.log().contains("a delivery connection was lost"), "{}", alice.log());
}
