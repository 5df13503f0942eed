//! `journal/` and the daemon's scratch: what only stands still while no daemon runs.

use std::path::Path;

use super::checkup::{Checkup, Entry};
use super::keys::Known;
use crate::disk::journal::{self, Inspection, JournalError, SCRATCH};
use crate::limits::{ENVELOPE_BYTES, STATE_FILE_BYTES_MAX};
use crate::wire::envelope::Envelope;
use crate::wire::identity::Fingerprint;
use crate::wire::spool::Spooled;

const RESTORE: &str = "chatterboxd does not start with it, and changes nothing. Nothing is lost that was on the \
                       disk: restore the whole directory from a backup, or ask for help with this.";

const ORPHAN: &str = "Nobody reads it. Move it away if you know it; only chatterboxd's own files belong here.";

/// Reads the log, if nobody writes it, so that what it holds can be told from what is lost.
pub(super) fn inspect(checkup: &mut Checkup<'_>) -> Option<Result<Inspection, JournalError>> {
    if checkup.is_busy() || !checkup.root.journal().is_dir() {
        return None;
    }
    let found = journal::inspect(checkup.root.disk(), checkup.root.path());
    if let Ok(inspection) = &found {
        checkup.rewritten.clone_from(&inspection.written);
        checkup.named.clone_from(&inspection.paths);
    }
    Some(found)
}

pub(super) fn check(checkup: &mut Checkup<'_>, log: Option<Result<Inspection, JournalError>>, known: &Known) {
    match log {
        Some(Ok(Inspection { transactions, .. })) if transactions > 0 => {
            let problem = match transactions {
                1 => "a recorded transaction is not applied to its end, as a crash leaves it".to_owned(),
                count => format!("{count} recorded transactions are not applied to their end, as a crash leaves them"),
            };
            checkup.note("replay", Path::new("journal"), problem, "The next start of chatterboxd does that.");
        }
        Some(Err(error)) => checkup.error("journal", Path::new("journal"), error.to_string(), RESTORE),
        _ => {}
    }
    for entry in checkup.entries(Path::new("journal")) {
        match entry.text() {
            Some("lock" | "spool" | "unopened" | "large" | "arriving") => {}
            Some(name) if name.starts_with("log-") => {}
            Some("new" | "old") => {
                let remedy = "The next start of chatterboxd erases it.";
                checkup.note("leftover", &entry.path, "a crash left it when the log was made anew", remedy);
            }
            _ => checkup.warning("orphan", &entry.path, "this is no file of chatterboxd", ORPHAN),
        }
    }
    check_spool(checkup, known);
    check_unopened(checkup);
    check_large(checkup);
    check_arriving(checkup, known);
    check_scratch(checkup);
}

fn check_spool(checkup: &mut Checkup<'_>, known: &Known) {
    for entry in checkup.entries(Path::new("journal/spool")) {
        let recipient = entry.text().and_then(Fingerprint::from_hex).filter(|_| entry.kind.is_dir());
        let Some(recipient) = recipient else {
            checkup.warning("orphan", &entry.path, "its name is no fingerprint", ORPHAN);
            continue;
        };
        let is_known = known.people.as_ref().is_none_or(|people| people.contains(&recipient));
        for entry in checkup.entries(&entry.path) {
            if entry.text().is_none_or(|name| name.parse::<u64>().is_err()) {
                checkup.warning("orphan", &entry.path, "its name is no place in the queue", ORPHAN);
            } else {
                check_spooled(checkup, &entry, is_known);
            }
        }
    }
}

fn check_spooled(checkup: &mut Checkup<'_>, entry: &Entry, is_known: bool) {
    let path = &entry.path;
    let Some(bytes) = checkup.read("damaged", path, STATE_FILE_BYTES_MAX, RESTORE) else { return };
    match Spooled::from_bytes(&bytes) {
        Ok(_) if is_known => {}
        Ok(_) => {
            let remedy = "It leaves when the recipient's card is in contacts/ again.";
            checkup.damaged(
                "recipient",
                path,
                "this message never leaves: nobody knows its recipient any more",
                remedy,
            );
        }
        Err(error) => checkup.damaged("damaged", path, error.to_string(), RESTORE),
    }
}

fn check_unopened(checkup: &mut Checkup<'_>) {
    for entry in checkup.entries(Path::new("journal/unopened")) {
        let since = entry.text().and_then(|name| name.split_once('-')?.0.parse::<u64>().ok());
        if since.is_none() {
            checkup.warning("orphan", &entry.path, "this is no envelope of chatterboxd", ORPHAN);
            continue;
        }
        let limit = u64::try_from(ENVELOPE_BYTES).unwrap_or(u64::MAX);
        let Some(bytes) = checkup.read("damaged", &entry.path, limit, RESTORE) else { continue };
        if let Err(error) = Envelope::from_slice(&bytes) {
            checkup.damaged("damaged", &entry.path, error.to_string(), RESTORE);
        }
    }
}

/// What nothing tells of is swept away at the next start, and while the daemon runs it may be about to be told of.
fn check_large(checkup: &mut Checkup<'_>) {
    if checkup.is_busy() {
        return;
    }
    for entry in checkup.entries(Path::new("journal/large")) {
        let record = entry.text().map(|name| Path::new("keys/large").join(name));
        let is_known = |path: &Path| checkup.root.is_taken(path) || checkup.named.contains(path);
        if !record.is_some_and(|record| is_known(&record)) && !checkup.named.contains(&entry.path) {
            let remedy = "The next start of chatterboxd erases it.";
            checkup.note("leftover", &entry.path, "a copy of a large message that nothing tells of any more", remedy);
        }
    }
}

/// What has come of contents of which something is noted. What the log names is noted there.
fn check_arriving(checkup: &mut Checkup<'_>, known: &Known) {
    for entry in checkup.entries(Path::new("journal/arriving")) {
        let is_known = entry.text().is_some_and(|name| known.arriving.contains(name));
        if !is_known && !checkup.named.contains(&entry.path) && !checkup.is_busy() {
            let problem = "this is part of a content of which nothing is noted any more";
            checkup.note("leftover", &entry.path, problem, "The next start of chatterboxd erases it.");
        }
    }
}

fn check_scratch(checkup: &mut Checkup<'_>) {
    for entry in checkup.entries(Path::new(SCRATCH)) {
        let path = &entry.path;
        let name = entry.name.to_string_lossy();
        if name.starts_with("new-") || name.starts_with("journal-") {
            checkup.note("leftover", path, "a crash left it", "The next start of chatterboxd places or erases it.");
        } else if checkup.named.contains(path) {
            let problem = "a crash left it: a file on its way out of the outbox";
            checkup.note("leftover", path, problem, "The next start of chatterboxd finishes that.");
        } else if name.starts_with("taken-") {
            let remedy = "It was sent, or never will be: look for its content in conversations/, and move it back into \
                          the outbox if it is not there.";
            checkup.warning(
                "leftover",
                path,
                "a file that left the outbox, and that the journal does not know",
                remedy,
            );
        } else {
            checkup.warning("orphan", path, "this is no file of chatterboxd", ORPHAN);
        }
    }
}
