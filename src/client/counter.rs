//! The counter at our home server, by which we notice that our own state is an old one (design, section 5, "Our own
//! rollback"): a backup was restored, `keys/` was lost, or a second copy of the root runs.
//!
//! It is read on every connection before anything else is believed, and written then, and again at random times that
//! have nothing to do with messages. A number is recorded here before it is written there, so that ours is never behind
//! the server's, unless ours is an old state's.

use std::path::Path;

use rand_core::{CryptoRngCore, RngCore};

use super::alerts;
use super::engine::Engine;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::crypto::dh::PublicKey;
use crate::disk::open::OpenError;
use crate::disk::system::Disk;
use crate::limits::{COUNTER_INTERVAL_MAX_MS, COUNTER_INTERVAL_MIN_MS, COUNTER_LEAP, COUNTER_MAX, COUNTER_WAIT_MS};
use crate::wire::Malformed;
use crate::wire::counter::{Complaint, CounterRecord, CounterState};
use crate::wire::state::AccountKeys;

/// What we know of the counter.
#[derive(Debug, Default)]
pub struct Counter {
    /// Its number is 0 while there is no file.
    state: CounterState,
    is_dirty: bool,
    /// When this run began, by its first event.
    started: Option<Timestamp>,
    /// Whether messages may be sealed: the counter was checked in this run, or was waited for long enough.
    may_seal: bool,
    /// The number is to be written once it is recorded.
    is_due: bool,
    /// When the next number is due; none while an answer is out.
    next: Option<Timestamp>,
}

/// What the server's record tells of our state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is the newest.
    Newest,
    /// It is an old one.
    Old {
        /// When the last write that it knows began, seconds since 1970; none if it knows of no write.
        written: Option<u64>,
        /// From which place among what was sent on nobody knew that.
        unchecked_from: Option<u64>,
    },
    /// Nothing, because the server does not keep the record as it should. `is_news` if nobody was told yet.
    Untold {
        /// What is wrong.
        complaint: Complaint,
        /// Whether an alert is due.
        is_news: bool,
    },
}

impl Counter {
    /// Reads `keys/counter`; a root without the file has written no number yet.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self, StateError> {
        let bytes = match state::read(disk, path) {
            Err(StateError::Open { source: OpenError::Absent, .. }) => return Ok(Self::default()),
            result => result?,
        };
        let state = CounterState::from_bytes(&bytes).map_err(|error| StateError::malformed(path, error))?;
        Ok(Self { state, ..Self::default() })
    }

    /// The file's new content, if it changed since this was last asked.
    pub fn take_dirty(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.is_dirty).then(|| self.state.to_bytes())
    }

    /// Whether messages may be sealed.
    pub fn may_seal(&self) -> bool {
        self.may_seal
    }

    /// Notes the time. Where the server has kept us waiting for too long, messages are sealed from now on although nobody
    /// knows whether this state is the newest: `sent` is the place of the first of them.
    pub fn pass(&mut self, now: Timestamp, sent: u64) {
        let started = *self.started.get_or_insert(now);
        if now < started {
            // The clock was set back.
            self.started = Some(now);
        }
        if !self.may_seal && now.millis_since(started) >= COUNTER_WAIT_MS {
            self.may_seal = true;
            self.state.unchecked_from.get_or_insert(sent);
            self.is_dirty = true;
        }
    }

    /// Whether a record shows that this state is the newest that its server has seen. None of a server that we have moved to does,
    /// nor one that we were about to write when this state was recorded: more may have followed in each case.
    pub fn is_proven_by(&self, keys: &AccountKeys, server: PublicKey, record: Option<&[u8]>) -> bool {
        let ours = self.state;
        let theirs = record.and_then(|record| CounterRecord::open(keys, record).ok());
        let is_same = theirs.is_some_and(|theirs| theirs.number == ours.number);
        is_same && ours.server == Some(server) && !ours.is_writing
    }

    /// Compares our number with the record of `server`, and lets the next one be written there.
    pub fn check(&mut self, keys: &AccountKeys, server: PublicKey, record: Option<&[u8]>, now_s: u64) -> Finding {
        let ours = self.state;
        // Who has moved finds no record at the new server, or one from an earlier time there.
        let has_moved = ours.server != Some(server);
        // A number that leaves no room above it is none that we wrote.
        let is_ours = |record: CounterRecord| match record.number {
            ..=COUNTER_MAX => Ok(record.number),
            _ => Err(Malformed::new("sealed counter", "its number is too high")),
        };
        let theirs = record.map(|record| CounterRecord::open(keys, record).and_then(is_ours));
        let finding = match theirs {
            Some(Ok(number)) if number > ours.number => {
                Finding::Old { written: (ours.number > 0).then_some(ours.written), unchecked_from: ours.unchecked_from }
            }
            Some(Ok(number)) if number == ours.number => Finding::Newest,
            // The last write was not answered, and did not happen, or not yet.
            Some(Ok(number)) if ours.is_writing && number + 1 == ours.number => Finding::Newest,
            None if ours.number == 0 || (ours.is_writing && ours.number == 1) => Finding::Newest,
            Some(Ok(_)) | None if has_moved => Finding::Newest,
            Some(Ok(_)) => self.complain(Complaint::Older),
            Some(Err(_)) => self.complain(Complaint::Unreadable),
            None => self.complain(Complaint::Missing),
        };
        let theirs = theirs.and_then(Result::ok).unwrap_or(0);
        if finding == Finding::Newest {
            self.state.complaint = None;
        }
        self.may_seal = true;
        self.state.unchecked_from = None;
        // A write that may still be under way is repeated: were the next number written instead, the late one could
        // come after it and look like a server that goes back.
        // After a loss far ahead: the server may hold records of the future that was lost, and would else reset us with each.
        let theirs = match finding {
            Finding::Old { .. } => theirs.saturating_add(COUNTER_LEAP).min(COUNTER_MAX - 1),
            _ => theirs,
        };
        let is_repeated = !has_moved && finding == Finding::Newest && ours.is_writing && theirs < ours.number;
        self.state.server = Some(server);
        self.begin_write(ours.number.max(theirs), !is_repeated, now_s);
        finding
    }

    fn complain(&self, complaint: Complaint) -> Finding {
        Finding::Untold { complaint, is_news: self.state.complaint != Some(complaint) }
    }

    fn begin_write(&mut self, highest: u64, is_next: bool, now_s: u64) {
        self.state.number = if is_next { highest.saturating_add(1) } else { highest };
        self.state.is_writing = true;
        self.state.written = now_s;
        self.is_dirty = true;
        self.is_due = true;
        self.next = None;
    }

    /// The server has this number.
    pub fn answered(&mut self, number: u64, now: Timestamp, rng: &mut impl RngCore) {
        if !self.state.is_writing || number != self.state.number {
            return;
        }
        self.state.is_writing = false;
        self.is_dirty = true;
        let spread = COUNTER_INTERVAL_MAX_MS - COUNTER_INTERVAL_MIN_MS;
        let wait_ms = COUNTER_INTERVAL_MIN_MS + rng.next_u64() % (spread + 1);
        self.next = Some(Timestamp::from_micros(now.micros().saturating_add(1_000 * wait_ms)));
    }

    /// While the connection stands: begins the next write when its time has come.
    pub fn write_when_due(&mut self, now: Timestamp) {
        let Some(next) = self.next else { return };
        let wait_ms = next.millis_since(now);
        // A time further off than any wait was set before the clock jumped back.
        if wait_ms == 0 || wait_ms > COUNTER_INTERVAL_MAX_MS {
            self.begin_write(self.state.number, true, now.seconds());
        }
    }

    /// What is to be written now that it is recorded: the number, and the record that says it.
    pub fn take_write(&mut self, keys: &AccountKeys, rng: &mut impl CryptoRngCore) -> Option<(u64, Vec<u8>)> {
        let CounterState { number, written: time, .. } = self.state;
        std::mem::take(&mut self.is_due).then(|| (number, CounterRecord { number, time }.seal(keys, rng)))
    }

    fn told(&mut self, complaint: Complaint) {
        self.state.complaint = Some(complaint);
    }
}

impl Engine {
    /// What our server has in the place of our counter.
    pub(super) fn check_counter(&mut self, record: Option<&[u8]>, now: Timestamp) {
        let server = *self.account.profile.profile().server.key();
        // Only at first: what the server has later it has from this run.
        match self.counter.is_proven_by(&self.account.keys, server, record) {
            true => self.spool.believe(),
            false => self.spool.distrust(),
        }
        match self.counter.check(&self.account.keys, server, record, now.seconds()) {
            Finding::Newest | Finding::Untold { is_news: false, .. } => {}
            Finding::Untold { complaint, is_news: true } => {
                self.counter.told(complaint);
                let problem = match complaint {
                    Complaint::Missing => {
                        "Your home server has lost the counter that it keeps for you, or withholds it."
                    }
                    Complaint::Older => {
                        "Your home server has an older counter of yours than the one it was given last."
                    }
                    Complaint::Unreadable => "What your home server keeps as your counter is not what you gave it.",
                };
                let text = format!(
                    "{problem}\n\
                     Ask its operator whether it lost data. If you have just restored a backup or lost keys/, \
                     that could not be noticed: tell your contacts."
                );
                alerts::raise(&self.root, &mut self.pending, now, "counter", "", &text);
            }
            Finding::Old { written, unchecked_from } => self.lose_state(written, unchecked_from, now),
        }
        self.look_for_unsealed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
    use rand_core::OsRng;

    const NOW: u64 = 1_790_000_000;
    const HOME: PublicKey = PublicKey([5; 32]);

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn keys() -> AccountKeys {
        AccountKeys {
            signing: SigningKey::random(&mut OsRng),
            auth: SecretKey::random(&mut OsRng),
            transport: SecretKey::random(&mut OsRng),
        }
    }

    /// A server's place for the record, and a client that was written to it so often.
    fn written(keys: &AccountKeys, times: u64) -> (Counter, Vec<u8>) {
        let mut counter = Counter::default();
        let mut record = None;
        for _ in 0..times {
            assert_eq!(counter.check(keys, HOME, record.as_deref(), NOW), Finding::Newest);
            let (number, written) = counter.take_write(keys, &mut OsRng).unwrap();
            counter.answered(number, at(NOW), &mut OsRng);
            record = Some(written);
        }
        (counter, record.unwrap())
    }

    fn again(counter: &Counter) -> Counter {
        Counter { state: counter.state, ..Counter::default() }
    }

    #[test]
    fn every_connection_writes_the_next_number() {
        let keys = keys();
        let (counter, record) = written(&keys, 3);
        assert_eq!(CounterRecord::open(&keys, &record), Ok(CounterRecord { number: 3, time: NOW }));
        assert_eq!(counter.state.number, 3);
    }

    #[test]
    fn a_higher_number_at_the_server_tells_that_our_state_is_old() {
        let keys = keys();
        let (old, _) = written(&keys, 2);
        let (_, record) = written(&keys, 3);
        let mut restored = again(&old);
        let finding = restored.check(&keys, HOME, Some(&record), NOW + 5);
        assert_eq!(finding, Finding::Old { written: Some(NOW), unchecked_from: None });
        let (number, _) = restored.take_write(&keys, &mut OsRng).unwrap();
        assert!(number > 3, "above both");
        // The server may hold more of the future that was lost: that does not reset us once more.
        let (_, later) = written(&keys, 1_000);
        let finding = again(&restored).check(&keys, HOME, Some(&later), NOW);
        assert!(!matches!(finding, Finding::Old { .. }), "{finding:?}");
        let finding = Counter::default().check(&keys, HOME, Some(&record), NOW);
        assert_eq!(finding, Finding::Old { written: None, unchecked_from: None });
    }

    #[test]
    fn a_number_with_no_room_above_it_resets_nothing() {
        let keys = keys();
        let (counter, _) = written(&keys, 2);
        for number in [COUNTER_MAX + 1, u64::MAX] {
            let record = CounterRecord { number, time: NOW }.seal(&keys, &mut OsRng);
            let finding = again(&counter).check(&keys, HOME, Some(&record), NOW);
            assert_eq!(finding, Finding::Untold { complaint: Complaint::Unreadable, is_news: true });
        }
    }

    #[test]
    fn a_write_without_an_answer_is_repeated_under_its_number() {
        let keys = keys();
        let (mut counter, record) = written(&keys, 2);
        counter.write_when_due(at(NOW + COUNTER_INTERVAL_MAX_MS));
        let (number, late) = counter.take_write(&keys, &mut OsRng).unwrap();
        assert_eq!(number, 3);
        let mut restarted = again(&counter);
        assert_eq!(restarted.check(&keys, HOME, Some(&record), NOW), Finding::Newest, "it has not arrived");
        assert_eq!(restarted.take_write(&keys, &mut OsRng).unwrap().0, 3);
        let mut restarted = again(&counter);
        assert_eq!(restarted.check(&keys, HOME, Some(&late), NOW), Finding::Newest, "it has arrived");
        assert_eq!(restarted.take_write(&keys, &mut OsRng).unwrap().0, 4);
        let mut first = Counter::default();
        first.check(&keys, HOME, None, NOW);
        assert_eq!(again(&first).check(&keys, HOME, None, NOW), Finding::Newest, "the very first has not arrived");
    }

    #[test]
    fn only_the_very_number_that_its_server_answered_shows_that_a_state_is_the_newest() {
        let keys = keys();
        let (counter, record) = written(&keys, 3);
        let (_, older) = written(&keys, 2);
        let (_, newer) = written(&keys, 4);
        assert!(again(&counter).is_proven_by(&keys, HOME, Some(&record)));
        for other in [None, Some(&older[..]), Some(&newer), Some(&record[1..])] {
            assert!(!again(&counter).is_proven_by(&keys, HOME, other));
        }
        assert!(!again(&counter).is_proven_by(&keys, PublicKey([6; 32]), Some(&record)), "another server");
        let mut writing = counter;
        writing.write_when_due(at(NOW + COUNTER_INTERVAL_MAX_MS));
        let (_, late) = writing.take_write(&keys, &mut OsRng).unwrap();
        for record in [&record, &late] {
            assert!(!again(&writing).is_proven_by(&keys, HOME, Some(record)), "it may have gone on from there");
        }
    }

    #[test]
    fn a_server_that_withholds_replays_or_replaces_the_record_is_told_of_once_and_resets_nothing() {
        let keys = keys();
        let (_, older) = written(&keys, 2);
        let (counter, _) = written(&keys, 4);
        let foreign = vec![7; older.len()];
        for (record, complaint) in
            [(None, Complaint::Missing), (Some(&older), Complaint::Older), (Some(&foreign), Complaint::Unreadable)]
        {
            let mut counter = again(&counter);
            let record = record.map(Vec::as_slice);
            assert_eq!(counter.check(&keys, HOME, record, NOW), Finding::Untold { complaint, is_news: true });
            counter.told(complaint);
            let mut counter = again(&counter);
            assert_eq!(counter.check(&keys, HOME, record, NOW), Finding::Untold { complaint, is_news: false });
            assert!(counter.may_seal());
        }
    }

    #[test]
    fn a_server_to_which_somebody_moves_need_not_have_the_newest_record() {
        let keys = keys();
        let (_, older) = written(&keys, 2);
        let (counter, _) = written(&keys, 4);
        for record in [None, Some(&older[..])] {
            let mut counter = again(&counter);
            let elsewhere = PublicKey([6; 32]);
            assert_eq!(counter.check(&keys, elsewhere, record, NOW), Finding::Newest);
            let (number, record) = counter.take_write(&keys, &mut OsRng).unwrap();
            assert_eq!(number, 5, "it rises also there");
            let finding = Counter::default().check(&keys, elsewhere, Some(&record), NOW);
            assert!(matches!(finding, Finding::Old { .. }));
        }
    }

    #[test]
    fn sealing_waits_for_the_check_and_not_for_ever() {
        let keys = keys();
        let mut counter = Counter::default();
        counter.pass(at(NOW), 0);
        assert!(!counter.may_seal());
        let mut checked = again(&counter);
        checked.check(&keys, HOME, None, NOW);
        assert!(checked.may_seal());
        counter.pass(at(NOW + COUNTER_WAIT_MS / 1_000 - 1), 5);
        assert!(!counter.may_seal());
        counter.pass(at(NOW + COUNTER_WAIT_MS / 1_000), 6);
        assert!(counter.may_seal());
        counter.pass(at(NOW + COUNTER_WAIT_MS), 7);
        let (_, record) = written(&keys, 1);
        let finding = counter.check(&keys, HOME, Some(&record), NOW);
        assert_eq!(finding, Finding::Old { written: None, unchecked_from: Some(6) });
    }

    #[test]
    fn on_a_connection_that_stands_the_next_write_waits_for_the_answer_and_a_random_time() {
        let keys = keys();
        let (mut counter, record) = written(&keys, 1);
        counter.check(&keys, HOME, Some(&record), NOW);
        let (number, _) = counter.take_write(&keys, &mut OsRng).unwrap();
        let late = at(NOW + COUNTER_INTERVAL_MAX_MS / 1_000);
        counter.write_when_due(late);
        assert!(counter.take_write(&keys, &mut OsRng).is_none(), "the last was not answered");
        counter.answered(number + 1, at(NOW), &mut OsRng);
        assert!(counter.next.is_none(), "that was another number");
        counter.answered(number, at(NOW), &mut OsRng);
        counter.write_when_due(at(NOW + COUNTER_INTERVAL_MIN_MS / 1_000 - 1));
        assert!(counter.take_write(&keys, &mut OsRng).is_none());
        counter.write_when_due(late);
        assert_eq!(counter.take_write(&keys, &mut OsRng).unwrap().0, number + 1);
    }
}
