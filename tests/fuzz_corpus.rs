//! What the fuzzers found worth keeping, checked once more: by everybody, and without a fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../fuzz/src/journal.rs"]
mod journal;

#[test]
fn every_log_in_the_corpus_is_read_as_it_was_written_or_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/journal");
    let (mut kinds, mut bad) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        kinds.extend(input.first().map(|kind| kind % 3));
        if std::panic::catch_unwind(|| journal::check(&input)).is_err() {
            bad.push(path);
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(Vec::from_iter(kinds), [0, 1, 2], "a kind of input is missing");
}
