//! The parties, the network and the prekey server between them, and what may become of each envelope.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Act;
use super::party::{Became, Dice, Files, Party, Text};
use crate::client::trials::{Hints, Tried};
use crate::limits::ENVELOPE_BYTES;
use crate::wire::control::Rank;
use crate::wire::envelope::Envelope;
use crate::wire::identity::Fingerprint;
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::sealing::Tag;

const START_S: u64 = 1_790_000_000;
const DAY_S: u64 = 86_400;

/// Clocks differ, by less than the day that the rules for an alert allow.
const SKEW_S: [u64; 3] = [6 * 3_600, 0, 10 * 3_600];

/// What schedules may wait in all: within the lifetime of everything that is kept for what is late.
const WAITED_S_MAX: u64 = 10 * DAY_S;

/// A network that holds things back for so long may raise an alert: what explains an opening is forgotten after a week.
const LATE_S: u64 = 6 * DAY_S;

/// Where the last bytes of an envelope are: padding, in each that is not quite full. Two that are alike there were sealed
/// under one message key.
const TAIL: std::ops::Range<usize> = ENVELOPE_BYTES - 32..ENVELOPE_BYTES;

/// Where the body of an envelope begins.
const BODY_AT: usize = 2_474;

pub(super) type OpeningHash = [u8; 32];

/// What somebody sealed.
pub(super) struct Sealed {
    envelope: Envelope,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) text: Text,
    pub(super) session: OpeningHash,
    pub(super) opens: bool,
    pub(super) is_revealed: bool,
    pub(super) is_dropped: bool,
}

/// A session, from its opener's side.
pub(super) struct Begun {
    pub(super) step: usize,
    pub(super) prekey: Tag,
    /// Which of the recipient's pools the prekey is from.
    pub(super) pool: u32,
    pub(super) opening: usize,
    pub(super) pair: [usize; 2],
}

/// What the disk of one of them has, and what a person sees there.
#[derive(Clone)]
struct Commit {
    files: Files,
    kept: Vec<(Envelope, Tried)>,
    /// Which of what was sealed has opened here.
    opened: BTreeSet<usize>,
    pool: u32,
}

/// One of them, with what is not committed yet.
pub(super) struct Place {
    pub(super) party: Party,
    commits: Vec<Commit>,
    pub(super) opened: BTreeSet<usize>,
    /// Sealed since the last commit.
    staged: Vec<usize>,
    /// Taken from the mailbox since then.
    pub(super) fetched: Vec<usize>,
    pub(super) mailbox: Vec<usize>,
    pub(super) pool: u32,
    /// When it last went on from an old state, or without any.
    pub(super) rolled_back: Option<usize>,
}

/// What a prekey server has of somebody.
pub(super) struct Pool {
    prekeys: Vec<SignedPrekey>,
    last: Option<SignedPrekey>,
    pub(super) number: u32,
}

/// How the prekey server behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Server {
    Honest,
    /// It hands out again what it handed out last.
    HandsOutTwice,
    /// It says that nothing is left but the last resort.
    LastResortOnly,
}

pub(super) struct World {
    pub(super) places: Vec<Place>,
    pub(super) pools: Vec<Pool>,
    pub(super) server: Server,
    pub(super) sealed: Vec<Sealed>,
    pub(super) begun: BTreeMap<OpeningHash, Begun>,
    /// One-time prekeys that were handed out more than once.
    pub(super) shared: HashSet<Tag>,
    handed_out: HashSet<Tag>,
    tails: HashSet<[u8; 32]>,
    pub(super) now_s: u64,
    waited_s: u64,
    pub(super) step: usize,
    dice: Dice,
    pub(super) last_number: u32,
}

impl World {
    pub(super) fn new(parties: usize) -> Self {
        let (mut places, mut pools) = (Vec::new(), Vec::new());
        for place in 0..parties {
            let (party, mut prekeys) = Party::new(place);
            let commit = Commit { files: party.files.clone(), kept: Vec::new(), opened: BTreeSet::new(), pool: 0 };
            prekeys.reverse();
            pools.push(Pool { prekeys, last: None, number: 0 });
            places.push(Place {
                party,
                commits: vec![commit],
                opened: BTreeSet::new(),
                staged: Vec::new(),
                fetched: Vec::new(),
                mailbox: Vec::new(),
                pool: 0,
                rolled_back: None,
            });
        }
        Self {
            places,
            pools,
            server: Server::Honest,
            sealed: Vec::new(),
            begun: BTreeMap::new(),
            shared: HashSet::new(),
            handed_out: HashSet::new(),
            tails: HashSet::new(),
            now_s: START_S,
            waited_s: 0,
            step: 0,
            dice: Dice::new(3),
            last_number: 0,
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        self.step += 1;
        self.now_s += 1;
        match act {
            Act::Write { from, to } => {
                self.last_number += 1;
                self.write(from, to, self.last_number);
            }
            Act::Commit(who) => self.commit(who),
            Act::Deliver { to, at } => {
                if let Some(number) = pick(&self.places[to].mailbox, at) {
                    self.places[to].mailbox.retain(|other| *other != number);
                    self.places[to].fetched.push(number);
                    self.offer(to, number);
                }
            }
            Act::Repeat { to, at } => {
                if let Some(number) = pick(&self.revealed(|sealed| sealed.to == to), at) {
                    self.offer(to, number);
                }
            }
            Act::Drop { to, at } => {
                if let Some(number) = pick(&self.places[to].mailbox, at) {
                    self.places[to].mailbox.retain(|other| *other != number);
                    self.sealed[number].is_dropped = true;
                }
            }
            Act::Damage { to, at, position, mask } => {
                if let Some(number) = pick(&self.revealed(|sealed| sealed.to == to), at) {
                    let mut bytes = self.sealed[number].envelope.as_bytes().to_vec();
                    bytes[usize::from(position) % ENVELOPE_BYTES] ^= mask.max(1);
                    self.offer_forged(to, &Envelope::from_vec(bytes).unwrap());
                }
            }
            Act::Splice { to, front, back } => {
                let all = self.revealed(|_| true);
                if let (Some(front), Some(back)) = (pick(&all, front), pick(&all, back))
                    && front != back
                {
                    let [front, back] = [front, back].map(|number| self.sealed[number].envelope.as_bytes());
                    let spliced = Envelope::from_vec([&front[..BODY_AT], &back[BODY_AT..]].concat()).unwrap();
                    self.offer_forged(to, &spliced);
                }
            }
            Act::Stray { to, at } => {
                if let Some(number) = pick(&self.revealed(|sealed| sealed.to != to), at) {
                    self.offer_forged(to, &self.sealed[number].envelope.clone());
                }
            }
            Act::Restart(who) => self.restart(who),
            Act::Rollback { who, back, noticed } => self.roll_back(who, back, noticed),
            Act::Serve(server) => self.server = server,
            Act::Wait { hours } => {
                let wait_s = u64::from(hours) * 3_600;
                if self.waited_s + wait_s <= WAITED_S_MAX {
                    self.waited_s += wait_s;
                    self.now_s += wait_s;
                }
            }
        }
    }

    fn clock(&self, who: usize) -> u64 {
        self.now_s + SKEW_S[who]
    }

    pub(super) fn fingerprint(&self, who: usize) -> Fingerprint {
        self.places[who].party.fingerprint()
    }

    fn others(&self, who: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.places.len()).filter(move |other| *other != who)
    }

    /// What left its author's machine, as far as it is asked for.
    fn revealed(&self, wanted: impl Fn(&Sealed) -> bool) -> Vec<usize> {
        let numbered = self.sealed.iter().enumerate();
        numbered.filter(|(_, sealed)| sealed.is_revealed && wanted(sealed)).map(|(number, _)| number).collect()
    }

    pub(super) fn write(&mut self, from: usize, to: usize, number: u32) {
        let (now_s, peer) = (self.clock(from), self.fingerprint(to));
        let text = Text { number, written_s: now_s, names: None };
        if !self.places[from].party.must_open(&peer, now_s) {
            let sealed = self.places[from].party.seal(&peer, text, now_s, &mut self.dice);
            let (envelope, rank) = sealed.unwrap();
            return self.stage(from, to, text, envelope, rank.opening, false);
        }
        let prekey = self.take_prekey(to);
        let identity = self.places[to].party.keys.identity();
        let (envelope, session) = self.places[from].party.open(&identity, &prekey, text, now_s, &mut self.dice);
        let (opening, pool) = (self.sealed.len(), self.pools[to].number);
        let begun = Begun { step: self.step, prekey: prekey.tag(), pool, opening, pair: [from, to] };
        self.begun.insert(session, begun);
        self.stage(from, to, text, envelope, session, true);
        self.retry(from);
    }

    fn take_prekey(&mut self, of: usize) -> SignedPrekey {
        let pool = &mut self.pools[of];
        let last_resort = pool.prekeys[0].clone();
        let prekey = match (self.server, &pool.last) {
            (Server::HandsOutTwice, Some(last)) => last.clone(),
            (Server::LastResortOnly, _) => last_resort,
            _ if pool.prekeys.len() > 1 => pool.prekeys.pop().unwrap(),
            _ => last_resort,
        };
        pool.last = Some(prekey.clone());
        if prekey.kind == PrekeyKind::OneTime && !self.handed_out.insert(prekey.tag()) {
            self.shared.insert(prekey.tag());
        }
        prekey
    }

    fn stage(&mut self, from: usize, to: usize, text: Text, envelope: Envelope, session: OpeningHash, opens: bool) {
        self.places[from].party.collect();
        self.places[from].staged.push(self.sealed.len());
        let (is_revealed, is_dropped) = (false, false);
        self.sealed.push(Sealed { envelope, from, to, text, session, opens, is_revealed, is_dropped });
    }

    /// What was computed is recorded, then revealed (design, section 9, rule 1).
    pub(super) fn commit(&mut self, who: usize) {
        for to in self.others(who) {
            let peer = self.fingerprint(to);
            if self.places[who].party.sessions.is_outranked(&peer, self.clock(who)) {
                self.last_number += 1;
                self.write(who, to, self.last_number);
            }
        }
        let place = &mut self.places[who];
        place.record();
        place.fetched.clear();
        for number in std::mem::take(&mut place.staged) {
            let sealed = &mut self.sealed[number];
            sealed.is_revealed = true;
            let tail = sealed.envelope.as_bytes()[TAIL].try_into().unwrap();
            assert!(self.tails.insert(tail), "two envelopes were sealed under one message key");
            let to = sealed.to;
            self.places[to].mailbox.push(number);
            let (peer, now_s) = (self.fingerprint(to), self.clock(who));
            self.places[who].party.sessions.accepted(&peer, now_s);
        }
        self.places[who].party.collect();
    }

    /// Their process ends, and nothing that was not committed has happened. What was to be sent is still there.
    fn restart(&mut self, who: usize) {
        let unsent: Vec<usize> = self.places[who].staged.clone();
        let last = self.places[who].commits.len() - 1;
        self.places[who].load(last);
        for number in unsent {
            let Sealed { to, text, .. } = self.sealed[number];
            if text.names.is_none() {
                self.write(who, to, text.number);
            }
        }
    }

    /// An earlier state comes back.
    fn roll_back(&mut self, who: usize, back: u8, noticed: bool) {
        let place = &mut self.places[who];
        let last = place.commits.len() - 1;
        place.load(last - usize::from(back) % place.commits.len());
        place.rolled_back = Some(self.step);
        if noticed {
            self.replace_pool(who);
        }
        self.places[who].record();
    }

    pub(super) fn replace_pool(&mut self, who: usize) {
        let mut prekeys = self.places[who].party.lose(&mut self.dice);
        prekeys.reverse();
        let number = self.pools.iter().map(|pool| pool.number).max().unwrap() + 1;
        self.pools[who] = Pool { prekeys, last: None, number };
        self.places[who].pool = number;
        self.places[who].rolled_back = Some(self.step);
    }

    /// An envelope comes, as it was sent.
    pub(super) fn offer(&mut self, to: usize, number: usize) {
        let (now_s, envelope) = (self.clock(to), self.sealed[number].envelope.clone());
        let became = self.places[to].party.receive(&envelope, now_s, &mut self.dice);
        self.places[to].party.collect();
        self.note(to, number, became);
        self.retry(to);
    }

    fn retry(&mut self, who: usize) {
        loop {
            let now_s = self.clock(who);
            let done = self.places[who].party.retry(now_s, &mut self.dice);
            self.places[who].party.collect();
            if done.is_empty() {
                return;
            }
            for (envelope, became) in done {
                let number = self.sealed.iter().position(|sealed| sealed.envelope == envelope).unwrap();
                self.note(who, number, became);
            }
        }
    }

    fn note(&mut self, who: usize, number: usize, became: Became) {
        let sealed = &self.sealed[number];
        match became {
            Became::Known | Became::Kept(_) => {}
            Became::Opened(author, text, opened) => {
                assert_eq!(sealed.to, who, "it opened at somebody else");
                assert_eq!(author, self.fingerprint(sealed.from), "it opened in somebody else's name");
                assert_eq!(text, sealed.text, "it says something else");
                assert!(self.places[who].opened.insert(number), "{text:?} opened twice");
                let from = sealed.from;
                let Some(opened) = opened else { return };
                let caused = self.is_troubled(who, from) || self.was_overtaken(number) || self.waited_s >= LATE_S;
                assert!(!opened.is_unexplained || caused, "an alert without a cause");
                if let Some(highest) = opened.answer {
                    self.answer(who, from, opened.rank, highest);
                }
            }
            Became::Repeated | Became::Damaged => {
                let tainted = self.is_tainted(&sealed.session);
                assert!(tainted, "{:?} counts as repeated or damaged: {became:?}", sealed.text);
            }
            Became::Taken => {
                let prekey = &self.begun[&sealed.session].prekey;
                assert!(self.shared.contains(prekey), "{:?} counts as a second use of its prekey", sealed.text);
            }
        }
    }

    fn answer(&mut self, from: usize, to: usize, rank: Rank, highest: Rank) {
        self.last_number += 1;
        let (now_s, peer) = (self.clock(from), self.fingerprint(to));
        let text = Text { number: self.last_number, written_s: now_s, names: Some(highest) };
        let party = &mut self.places[from].party;
        let sealed = party.sessions.seal_in(&party.keys, &peer, rank, &text.to_bytes(), now_s, &mut self.dice);
        self.stage(from, to, text, sealed.unwrap().unwrap(), rank.opening, false);
    }

    /// An envelope comes that nobody made so, or for somebody else: nothing may come of it.
    fn offer_forged(&mut self, to: usize, envelope: &Envelope) {
        let now_s = self.clock(to);
        let party = &mut self.places[to].party;
        party.collect();
        let before = party.serialized();
        let became = party.try_open(envelope, Hints::NONE, now_s, &mut self.dice);
        assert!(!matches!(became, Became::Opened(..)), "a forged envelope has opened");
        assert!(before == party.serialized() && !party.collect(), "a forged envelope has changed the state");
    }
}

impl Place {
    /// What was computed is on the disk, all of it: what is in memory is what the next start finds.
    fn record(&mut self) {
        self.party.collect();
        let (files, kept) = (self.party.files.clone(), self.party.kept.clone());
        let reloaded = Party::load(self.party.keys.clone(), &files, Vec::new());
        assert!(reloaded.serialized() == self.party.serialized(), "memory and disk differ");
        self.commits.push(Commit { files, kept, opened: self.opened.clone(), pool: self.pool });
    }

    /// It starts from one of its commits.
    fn load(&mut self, commit: usize) {
        let Commit { files, kept, opened, pool } = self.commits[commit].clone();
        self.party = Party::load(self.party.keys.clone(), &files, kept);
        (self.opened, self.pool) = (opened, pool);
        self.staged.clear();
        self.mailbox.append(&mut self.fetched);
    }
}

fn pick(numbers: &[usize], at: u8) -> Option<usize> {
    (!numbers.is_empty()).then(|| numbers[usize::from(at) % numbers.len()])
}
