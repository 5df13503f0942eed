//! What the fuzzers found worth keeping, checked once more: by everybody, and without a fuzzer.
//!
//! The seeds that each fuzzer began with are made by `fuzz/src/TARGET.rs`. They are written to `fuzz/corpus/TARGET` by
//! `cargo test --test fuzz_corpus -- --ignored`, beside what the fuzzers found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::{card, envelope, header, journal, payload, prekey, profile, session};

/// What checks an input, and says whether it was taken.
type Check = fn(&[u8]) -> bool;
type Seeds = fn() -> Vec<(&'static str, Vec<u8>)>;

const CHECKS: [(&str, Check); 8] = [
    ("card", card::check),
    ("envelope", envelope::check),
    ("header", header::check),
    ("journal", journal::check),
    ("payload", payload::check),
    ("prekey", prekey::check),
    ("profile", profile::check),
    ("session", session::check),
];

/// The journal's were kept from a run.
const SEEDS: [(&str, Seeds); 7] = [
    ("card", card::seeds),
    ("envelope", envelope::seeds),
    ("header", header::seeds),
    ("payload", payload::seeds),
    ("prekey", prekey::seeds),
    ("profile", profile::seeds),
    ("session", session::seeds),
];

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(fuzz().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    Vec::from_iter(names.collect::<BTreeSet<_>>())
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_target_has_a_corpus_that_is_checked_here() {
    let checked: Vec<&str> = CHECKS.iter().map(|(target, _)| *target).collect();
    assert_eq!(names("fuzz_targets"), checked);
    assert_eq!(names("corpus"), checked);
}

#[test]
fn every_input_in_the_corpus_is_taken_or_refused_by_the_rules() {
    let mut bad = Vec::new();
    for (target, check) in CHECKS {
        let mut outcomes = BTreeSet::new();
        for (path, input) in corpus(target) {
            match catch_unwind(|| check(&input)) {
                Ok(taken) => drop(outcomes.insert(taken)),
                Err(_) => bad.push(path),
            }
        }
        assert_eq!(outcomes.len(), 2, "{target}: inputs that are taken, or inputs that are refused, are missing");
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_seed_is_taken_or_refused_by_the_rules() {
    for (target, seeds) in SEEDS {
        let (_, check) = CHECKS.into_iter().find(|(name, _)| *name == target).unwrap();
        let outcomes: BTreeSet<bool> = seeds().iter().map(|(_, input)| check(input)).collect();
        assert_eq!(outcomes.len(), 2, "{target}");
    }
}

#[test]
fn the_logs_in_the_corpus_are_of_every_kind() {
    let kinds: BTreeSet<u8> = corpus("journal").iter().filter_map(|(_, input)| Some(input.first()? % 3)).collect();
    assert_eq!(Vec::from_iter(kinds), [0, 1, 2]);
}

#[test]
#[ignore = "writes the seeds to fuzz/corpus"]
fn write_the_seeds() {
    for (target, seeds) in SEEDS {
        let directory = fuzz().join("corpus").join(target);
        fs::create_dir_all(&directory).unwrap();
        for (name, input) in seeds() {
            fs::write(directory.join(name), input).unwrap();
        }
    }
}
