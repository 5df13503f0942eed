//! Contents that go and come in parts.

use super::world::Act::{Checkpoint, Drop, Kill, Run, Start};
use super::world::{Act, World, drop_by};
use super::{crash_everywhere, crash_in_replay, fail_every_sync, standing};
use crate::limits::{LARGE_AHEAD, PART_BYTES};

/// A text of so many parts, and something, that is told from another by its beginning.
fn text(begins: &str, parts: usize) -> &'static str {
    let size = parts * usize::try_from(PART_BYTES).unwrap() + 100;
    let lines = (0..).map(|number| format!("{begins} {number}\n"));
    let mut text = String::with_capacity(size + 64);
    for line in lines {
        text.push_str(&line);
        if text.len() >= size {
            break;
        }
    }
    text.truncate(size);
    Box::leak(text.into_boxed_str())
}

fn drop_large(from: usize, name: &'static str, content: &'static str) -> Act {
    Drop { from, name, content, synced: true }
}

fn acts(parts: usize) -> Vec<Act> {
    vec![
        Start(0),
        Start(1),
        drop_large(0, "a.txt", text("a large one", parts)),
        drop_by(0, "b", "a small one behind it"),
        drop_large(1, "c.txt", text("another large one", 1)),
        Run,
        Checkpoint(1),
        Kill(1),
        drop_large(0, "d.txt", text("a third", 1)),
        Start(1),
        Run,
    ]
}

#[test]
fn a_large_content_goes_and_comes_once_and_whole_whatever_crashes() {
    let base = standing();
    let acts = acts(LARGE_AHEAD + 3);
    crash_everywhere("large content", &base, 0, &acts);
    crash_everywhere("large content", &base, 1, &acts);
}

#[test]
fn a_crash_in_the_replay_of_parts_and_a_move_loses_and_doubles_nothing() {
    crash_in_replay(&standing(), 1, &acts(2));
}

#[test]
fn a_sync_that_fails_while_parts_come_loses_and_doubles_nothing() {
    fail_every_sync("large content", &standing(), 1, &acts(3));
}

#[test]
fn the_first_message_to_somebody_may_be_a_large_one() {
    let mut world = World::new().rest(&[Start(0), Start(1), Run]);
    world.act(Start(0));
    world.act(Start(1));
    world.act(drop_large(0, "a.txt", text("the first", 4)));
    world.act(Run);
    world.finish("a large one first");
}

#[test]
fn a_file_that_nobody_synced_is_copied_whole_or_stays_whatever_fails() {
    let acts = [
        Start(0),
        Start(1),
        Drop { from: 0, name: "a.txt", content: text("nobody synced it", 1), synced: false },
        drop_large(0, "b.txt", text("synced", 1)),
        Run,
        Checkpoint(0),
    ];
    crash_everywhere("copies", &standing(), 0, &acts);
    crash_in_replay(&standing(), 0, &acts);
    fail_every_sync("copies", &standing(), 0, &acts);
}
