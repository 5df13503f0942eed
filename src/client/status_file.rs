//! Writing `status`: when what it says has changed, and no oftener than it must be.

use std::thread;
use std::time::Duration;

use super::root::Root;
use super::status::Status;
use crate::disk::atomic;
use crate::disk::lock::{LockError, RootLock};
use crate::disk::open;
use crate::limits::{LOCK_RETRY_MS, LOCK_TRIES_AT_END, STATE_FILE_BYTES_MAX};
use crate::net::dialer::Way;

/// The file, as it was last written.
#[derive(Debug)]
pub struct StatusFile {
    root: Root,
    /// How connections are opened, in words: the same for as long as the daemon runs.
    dialer: String,
    /// The schedule by which envelopes leave, if there is one: the same for as long as the daemon runs.
    schedule: Option<String>,
    written: String,
    /// The same without the length of the queue.
    but_queue: String,
    /// Whether a queue that is not empty is to be told.
    queue_is_due: bool,
}

impl StatusFile {
    /// Nothing is written yet.
    pub fn new(root: Root, dialer: &Way, schedule: Option<String>) -> Self {
        let dialer = match dialer {
            Way::Direct => "direct (not private)".to_owned(),
            other => other.to_string(),
        };
        Self { root, dialer, schedule, written: String::new(), but_queue: String::new(), queue_is_due: true }
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.queue_is_due = true;
    }

    /// Writes what is to be said, if it is news. A disk that does not take it is asked again with the next news.
    ///
    /// A message is queued and accepted within milliseconds, so what the queue holds is told when it is empty, and each
    /// second: two files for each message would be half of what it costs.
    pub fn write(&mut self, status: &Status) {
        let status = Status { dialer: self.dialer.clone(), schedule: self.schedule.clone(), ..status.clone() };
        let text = status.to_string();
        let but_queue = Status { queue: 0, ..status.clone() }.to_string();
        let waits = status.queue > 0 && but_queue == self.but_queue && !self.queue_is_due;
        if text == self.written || waits {
            return;
        }
        self.queue_is_due = false;
        let scratch = self.root.tmp("chatterboxd");
        match atomic::replace_unsynced(self.root.disk(), &scratch, &self.root.status(), text.as_bytes()) {
            Ok(()) => (self.written, self.but_queue) = (text, but_queue),
            Err(error) => tracing::debug!(%error, "status could not be written"),
        }
    }
}

/// A daemon that could not start, or not go on, says why; the rest of the file stays as it was. Not where another daemon runs on
/// the root, nor on a disk that does not take it: there is its exit code, and what it says on stderr.
pub fn say_ended(root: &Root, reason: &str) {
    let mut tries = LOCK_TRIES_AT_END;
    let _lock = loop {
        match RootLock::acquire(&root.lock()) {
            Ok(lock) => break lock,
            Err(LockError::LookedAt { .. }) if tries > 0 => {
                tries -= 1;
                thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
            }
            Err(_) => return,
        }
    };
    let before = open::read_text(root.disk(), &root.status(), STATE_FILE_BYTES_MAX).unwrap_or_default();
    let status = Status {
        running: false,
        ended: Some(reason.to_owned()),
        pid: std::process::id(),
        tor: None,
        connected: false,
        connection: "stopped".into(),
        paused: None,
        ..Status::parse(&before)
    };
    let scratch = root.tmp("chatterboxd");
    let written = atomic::replace_unsynced(root.disk(), &scratch, &root.status(), status.to_string().as_bytes());
    if let Err(error) = written {
        tracing::debug!(%error, "status could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_says_why_and_leaves_what_is_known_and_no_other_daemons_words() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        [root.journal(), root.tmp("chatterboxd")].iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let read = || std::fs::read_to_string(root.status()).unwrap();
        say_ended(&root, "a file\nis \u{1b}[2Jdamaged");
        let pid = std::process::id();
        assert_eq!(
            read(),
            format!(
                "daemon: stopped\nended: a file is  [2Jdamaged\npid: {pid}\nconnection: stopped\nqueue: 0\nignored: 0\n"
            )
        );
        let before = Status {
            running: true,
            account: "alice 00".into(),
            prekeys: Some(7),
            paused: Some("the disk is full; it is tried again".into()),
            ..Status::default()
        };
        StatusFile::new(root.clone(), &Way::Direct, None).write(&before);
        let lock = RootLock::acquire(&root.lock()).unwrap();
        say_ended(&root, "another daemon runs");
        assert!(!read().contains("ended: "));
        drop(lock);
        say_ended(&root, "too old");
        assert_eq!(
            read(),
            format!(
                "daemon: stopped\nended: too old\npid: {pid}\naccount: alice 00\ndialer: direct (not private)\n\
                 connection: stopped\nqueue: 0\nprekeys: 7\nignored: 0\n"
            )
        );
    }

    #[test]
    fn a_queue_is_told_when_it_is_empty_and_each_second_and_all_else_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        std::fs::create_dir_all(root.tmp("chatterboxd")).unwrap();
        let mut file = StatusFile::new(root.clone(), &Way::Direct, Some("poisson".into()));
        let says = |file: &mut StatusFile, queue: usize, paused: Option<&str>| {
            let status = Status { queue, paused: paused.map(str::to_owned), ..Status::default() };
            file.write(&status);
            let there = Status::parse(&std::fs::read_to_string(root.status()).unwrap());
            assert_eq!(there.schedule.as_deref(), Some("poisson"));
            (there.queue, there.paused.is_some())
        };
        assert_eq!(says(&mut file, 0, None), (0, false));
        assert_eq!(says(&mut file, 3, None), (0, false));
        file.tick();
        assert_eq!(says(&mut file, 2, None), (2, false));
        assert_eq!(says(&mut file, 1, None), (2, false));
        assert_eq!(says(&mut file, 1, Some("full")), (1, true));
        assert_eq!(says(&mut file, 0, Some("full")), (0, true));
    }
}
