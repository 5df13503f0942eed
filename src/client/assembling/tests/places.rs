//! Where contents stand: each in its own file, and those of requests once there is a place for them.

use super::*;

#[test]
fn two_contents_at_a_time_do_not_mix() {
    let mut bench = Bench::new();
    let (first, second) = (bench.sent(1, 5 * PART_BYTES), bench.sent(2, 5 * PART_BYTES));
    for number in [4, 0, 3, 1, 2] {
        bench.take(first.part(number));
        bench.take(second.part(4 - number));
    }
    let mut contents: Vec<Vec<u8>> = bench.messages().into_iter().map(|(_, bytes)| bytes).collect();
    contents.sort();
    let mut expected = vec![first.bytes, second.bytes];
    expected.sort();
    assert!(contents == expected);
}

#[test]
fn what_is_whole_in_a_request_waits_until_there_is_a_place_for_it() {
    let mut bench = Bench::new();
    bench.conversation.accepted = false;
    bench.engine.conversations.add(bench.conversation.clone());
    bench.settle();
    let sent = bench.sent(1, 2 * PART_BYTES);
    bench.take(sent.part(0));
    let requests = bench.root.join("requests");
    fs::remove_dir_all(&requests).unwrap();
    fs::write(&requests, "a person's").unwrap();
    bench.take(sent.part(1));
    assert_eq!(bench.engine.arriving.authors().count(), 1);
    fs::remove_file(&requests).unwrap();
    bench.engine.handle(Event::Tick, bench.now).unwrap();
    bench.settle();
    let directory = fs::read_dir(&requests).unwrap().next().unwrap().unwrap().path();
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let contents: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
    assert!(contents.contains(&sent.bytes));
    bench.assert_nothing_is_kept();
}
