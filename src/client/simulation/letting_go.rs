//! Messages that leave the queue before their recipient's server has confirmed them, and what must not leave with them.

use std::time::Duration;

use super::machine::Hears;
use super::world::Act::{Kill, Run, Start, StartUnheard};
use super::world::{World, drop_by};
use super::{met, standing};
use crate::client::contacts;
use crate::wire::control::Messages;
use crate::wire::identity::{ConversationId, MessageId};
use crate::wire::sent::SentKey;

/// One field of the first `.delivery` file of alice's that has `text` in it.
fn field(world: &World, name: &str, text: &str) -> String {
    let alice = &world.machines[0];
    let (path, _) = alice.files("conversations").into_iter().find(|(_, content)| content == text).unwrap();
    let (directory, file) = path.rsplit_once('/').unwrap();
    let delivery = alice.disk.read_file(&alice.path(directory).join(".delivery").join(file));
    let delivery = String::from_utf8(delivery).unwrap();
    let line = delivery.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.to_owned()
}

/// She takes a message back.
fn cancel(world: &mut World, text: &str) {
    let path = format!("outbox/.cancel/{}", field(world, "id: ", text));
    let alice = &mut world.machines[0];
    alice.disk.write_file(&alice.path(&path), b"", true);
    alice.engine().cancels = true;
    world.run_rounds(2);
    assert!(field(world, "to: ", text).contains(" failed "));
}

/// Two of whom bob does not know alice, whose messages wait.
fn waiting(texts: &[&'static str]) -> World {
    let world = World::new();
    let card = world.machines[1].path(&format!("contacts/alice{}", contacts::SUFFIX));
    world.machines[1].delete(&card);
    let mut world = world.rest(&[Start(0), Start(1), Run]);
    world.act(StartUnheard(0));
    for text in texts {
        world.act(drop_by(0, text, text));
        world.run_rounds(2);
    }
    world
}

/// What stands in bob's requests, once all of hers has come.
fn requests(mut world: World) -> Vec<String> {
    [Kill(0), Start(0), Start(1), Run].into_iter().for_each(|act| world.act(act));
    let bob = &world.machines[1];
    assert_eq!(bob.files("journal/unopened"), []);
    let mut found: Vec<String> = bob.files("requests").into_iter().map(|(_, content)| content).collect();
    found.retain(|content| !content.starts_with("chatterbox"));
    found
}

#[test]
fn a_stranger_hears_what_follows_on_a_first_message_that_was_taken_back() {
    let mut world = waiting(&["first"]);
    cancel(&mut world, "first");
    world.act(drop_by(0, "2", "second"));
    assert_eq!(requests(world), ["second"]);
    let mut world = waiting(&["first", "second", "third"]);
    cancel(&mut world, "first");
    cancel(&mut world, "second");
    assert_eq!(requests(world), ["third"]);
    let mut world = waiting(&["first", "second"]);
    cancel(&mut world, "first");
    cancel(&mut world, "second");
    assert_eq!(world.machines[0].files("journal/spool"), [], "nobody needs to hear of it");
    assert_eq!(requests(world), [""; 0]);
}

#[test]
fn who_got_an_opening_that_was_taken_back_under_way_is_understood() {
    let mut world = met();
    world.machines[0].is_unanswered = true;
    world.act(Start(0));
    world.act(drop_by(0, "1", "first"));
    world.run_rounds(4);
    cancel(&mut world, "first");
    assert!(field(&world, "to: ", "first").contains("it is not known whether it had arrived"));
    world.machines[0].is_unanswered = false;
    world.act(Start(1));
    world.run_rounds(4);
    world.act(drop_by(1, "2", "an answer"));
    world.act(Run);
    world.act(drop_by(0, "3", "more"));
    world.act(Run);
    assert_eq!(world.machines[1].messages(), ["an answer", "first", "more"]);
    assert_eq!(world.machines[0].messages(), ["an answer", "first", "more"]);
    assert_eq!(world.machines[0].files("journal/unopened"), []);
}

#[test]
fn who_got_an_opening_that_their_server_says_it_did_not_take_is_understood() {
    let mut world = met();
    world.server_hears(Hears::AndRefuses);
    world.act(Start(0));
    world.act(drop_by(0, "1", "first"));
    world.run_rounds(4);
    cancel(&mut world, "first");
    assert!(field(&world, "to: ", "first").ends_with(": cancelled"), "by the server's word");
    world.server_hears(Hears::Everything);
    world.act(Start(1));
    world.run_rounds(4);
    world.act(drop_by(1, "2", "an answer"));
    world.act(Run);
    assert_eq!(world.machines[1].messages(), ["an answer", "first"]);
    assert_eq!(world.machines[0].messages(), ["an answer", "first"]);
    assert!(field(&world, "to: ", "first").contains(" delivered "));
    assert_eq!(world.machines[0].files("journal/unopened"), []);
}

/// What is said of a message that bob's server has and he has not acknowledged for long.
fn unacknowledged(is_blocked: bool) -> String {
    let mut world = standing();
    world.act(Start(0));
    world.machines[0].engine().policy.retry_period = Duration::from_secs(5);
    world.act(drop_by(0, "1", "to whom"));
    world.run_rounds(3);
    if is_blocked {
        let alice = &world.machines[0];
        let card = alice.path(&format!("contacts/bob{}", contacts::SUFFIX));
        let content = alice.disk.read_file(&card);
        alice.disk.write_file(&alice.path(&format!("blocked/bob{}", contacts::SUFFIX)), &content, true);
        alice.delete(&card);
        world.machines[0].engine().contacts_changed = true;
    }
    world.run_rounds(200);
    field(&world, "to: ", "to whom")
}

#[test]
fn silence_of_somebody_who_is_blocked_is_no_failure() {
    assert!(unacknowledged(false).contains(" failed "));
    assert!(unacknowledged(true).contains(" accepted "));
}

#[test]
fn what_is_acknowledged_again_writes_nothing() {
    let mut world = standing();
    [Start(0), Start(1), drop_by(0, "1", "once"), Run].into_iter().for_each(|act| world.act(act));
    let id = MessageId::from_hex(&field(&world, "id: ", "once")).unwrap();
    let both = world.machines.each_ref().map(|machine| machine.fingerprint());
    let again = [Messages { conversation: ConversationId::of_participants(&both), ids: vec![id] }];
    let now = world.time();
    let engine = world.machines[0].engine();
    assert!(
        engine.sent.get(&SentKey { recipient: both[1], conversation: again[0].conversation, message: id }).is_some()
    );
    engine.heed_acknowledged(both[1], &again, now);
    assert!(engine.transaction().is_none());
}
