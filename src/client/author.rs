//! What a message of somebody, and what others say of their messages, does to what we have of them (design, section 4): which
//! are missing, which contradict each other, and where a late one finds its place. Pure: the state goes in and changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use self::withdrawn::pieces;
use crate::clock::Timestamp;
use crate::limits::{
    CLAIM_AHEAD_MAX, CLAIM_ASKED_ANEW_S, CLAIM_LIFETIME_S, FORMER_INCARNATIONS_MAX, GAP_ALERT_S, GAP_ROOM_MAX_MICROS,
    GAP_ROOM_MICROS, GAP_WAITS_S, GAPS_MAX, HELD_MESSAGES_MAX,
};
use crate::wire::author::{AuthorRecord, Claim, Gap, Held, Incarnation, KeptClaim, Progress};
use crate::wire::ranges::Ranges;
use crate::wire::transcript::TranscriptHash;

/// A message that is here.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    /// Its author's.
    pub incarnation: [u8; 16],
    /// Its author's count.
    pub counter: u64,
    /// Its author's time, not in our future.
    pub time: Timestamp,
    /// Its hash.
    pub hash: TranscriptHash,
    /// That of the message before it, as it says.
    pub previous: TranscriptHash,
}

/// Two hashes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Its count.
    pub counter: u64,
    /// How they met.
    pub cause: Cause,
}

/// How two hashes of one message met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its author sent another with the same count.
    Twice,
    /// What its author sent behind it names another.
    Previous,
    /// Its author sent another under the same id.
    SameId,
    /// A participant has another, by their place.
    Claim(u8),
    /// A participant has one of ours that we have not written.
    Unwritten(u8),
}

impl Cause {
    /// The number of its bit.
    fn number(self) -> u8 {
        // Places are below 20.
        match self {
            Self::Twice => 62,
            Self::Previous => 61,
            Self::SameId => 60,
            Self::Claim(by) => by % 20,
            Self::Unwritten(by) => 20 + by % 20,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        match number {
            62 => Some(Self::Twice),
            61 => Some(Self::Previous),
            60 => Some(Self::SameId),
            0..20 => Some(Self::Claim(number)),
            20..40 => Some(Self::Unwritten(number - 20)),
            _ => None,
        }
    }

    fn bit(self) -> u64 {
        1 << self.number()
    }
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The author's incarnation.
    pub incarnation: [u8; 16],
    /// The first counter.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// The first and the last counter of what it is a piece of: its author may have withdrawn some of that.
    pub told_as: (u64, u64),
    /// How it goes. Where it is behind all that is here, for each that tells of it.
    progress: Vec<(Option<u8>, Progress)>,
}

impl Open {
    /// When it was noticed, seconds since 1970.
    pub fn since(&self) -> u64 {
        self.progress.iter().map(|(_, progress)| progress.since).min().unwrap_or_default()
    }

    /// Whether it is time to ask for it, once more.
    pub fn is_due(&self, now_s: u64) -> bool {
        self.progress.iter().any(|(_, progress)| progress.is_due(now_s))
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.progress.iter().any(|(_, progress)| progress.asked > 0)
    }

    /// Whether it will be asked for some time.
    #[cfg(test)]
    pub fn is_hopeful(&self) -> bool {
        self.progress.iter().any(|(_, progress)| progress.is_hopeful())
    }

    /// Whether a person is to be told of it, and then by whose word, if by others'.
    pub fn alarms(&self, now_s: u64) -> Option<Vec<u8>> {
        let alarming: Vec<_> = self.progress.iter().filter(|(_, progress)| progress.is_alarming(now_s)).collect();
        (!alarming.is_empty()).then(|| alarming.into_iter().filter_map(|(by, _)| *by).collect())
    }
}

impl Incarnation {
    fn new(id: [u8; 16]) -> Self {
        let (held, gaps, claimed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let withdrawn = Ranges::default();
        Self { id, last_time: Timestamp::default(), highest: 0, held, gaps, withdrawn, claimed }
    }

    /// The first counter of the gap that a message falls into.
    fn gap_of(&self, counter: u64) -> Option<u64> {
        let (from, gap) = self.gaps.range(..=counter).next_back()?;
        (counter <= gap.to).then_some(*from)
    }

    /// The time in a message's name: its author's, but between those of its neighbours, whatever the clocks have done.
    fn place(&self, counter: u64, time: Timestamp) -> Timestamp {
        let room = |from: u64, to: u64| (to - from).saturating_mul(GAP_ROOM_MICROS).min(GAP_ROOM_MAX_MICROS);
        let below = self.held.range(..counter).next_back();
        let above = self.held.range(counter.saturating_add(1)..).next();
        let before = above.map(|(at, held)| held.time.micros().saturating_sub(room(counter, *at)));
        let time = before.map_or(time, |before| time.min(Timestamp::from_micros(before)));
        // What it follows counts for more where there is no room.
        let behind = below.map(|(at, held)| held.time.micros().saturating_add(room(*at, counter)));
        behind.map_or(time, |behind| time.max(Timestamp::from_micros(behind)))
    }

    /// Whether a message's hash is another than the one that is held of it.
    fn differs(&self, counter: u64, hash: &TranscriptHash) -> bool {
        self.held.get(&counter).is_some_and(|held| held.hash != *hash)
    }

    /// Closes a gap around a message that came late. True if the one behind it names another.
    fn close(&mut self, from: u64, message: &Entered) -> bool {
        let Some(gap) = self.gaps.remove(&from) else { return false };
        if message.counter > from {
            self.gaps.insert(from, Gap { to: message.counter - 1, last: message.previous, ..gap });
        }
        if message.counter < gap.to {
            self.gaps.insert(message.counter + 1, gap);
        }
        message.counter == gap.to && gap.last != message.hash
    }
}

/// What entering a message found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Hashes that met and differ.
    pub contradictions: Vec<Contradiction>,
    /// More is missing than is kept: the oldest was given up.
    pub given_up: Option<(u64, u64)>,
    /// More is missing than is kept: of what its author has withdrawn the oldest is known no more. A claim of it would not be heeded.
    pub forgotten: Option<(u64, u64)>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It says what we know, or what we cannot compare any more.
    Nothing,
    /// It tells of a message that is not here.
    Kept,
    /// We have another.
    Contradicts(Contradiction),
}

impl AuthorRecord {
    /// A message is here. Where our own state was lost not long ago, what its author wrote before the first one that we have
    /// then may stand in the conversation, and is not missing. The time is for its name.
    pub fn enter(&mut self, message: &Entered, has_lost: bool, now_s: u64) -> (Timestamp, Findings) {
        let mut findings = Findings::default();
        let place = self.incarnation(&message.incarnation);
        let time = match self.incarnations[place].held.is_empty() {
            true => self.behind_others(place, message.time),
            false => self.incarnations[place].place(message.counter, message.time),
        };
        let incarnation = &mut self.incarnations[place];
        let mut note = |counter, cause| findings.contradictions.push(Contradiction { counter, cause });
        if incarnation.differs(message.counter, &message.hash) {
            note(message.counter, Cause::Twice);
            return (time, findings);
        }
        if incarnation.differs(message.counter - 1, &message.previous) {
            note(message.counter - 1, Cause::Previous);
        }
        if let Some(from) = incarnation.gap_of(message.counter) {
            if incarnation.close(from, message) {
                note(message.counter, Cause::Previous);
            }
        } else if message.counter > incarnation.highest {
            let from = incarnation.highest + 1;
            if message.counter > from && (incarnation.highest > 0 || !has_lost) {
                let progress = Progress::begin(now_s);
                let gap = Gap { to: message.counter - 1, last: message.previous, progress };
                incarnation.gaps.insert(from, gap);
            }
            incarnation.highest = message.counter;
            incarnation.last_time = message.time;
        }
        // A late message may make two gaps out of one.
        if incarnation.gaps.len() > GAPS_MAX {
            (findings.given_up, findings.forgotten) = incarnation.give_up_gap();
        }
        incarnation.held.entry(message.counter).or_insert(Held { time, hash: message.hash });
        if incarnation.held.len() > HELD_MESSAGES_MAX {
            incarnation.held.pop_first();
        }
        for (by, KeptClaim { claim, .. }) in &self.claims {
            let is_of_it = claim.incarnation == message.incarnation && claim.counter == message.counter;
            if is_of_it && claim.hash != message.hash {
                note(message.counter, Cause::Claim(*by));
            }
        }
        self.settle(now_s);
        self.order();
        (time, findings)
    }

    /// Somebody says what they have of the author. Where nothing is known of the incarnation that they name, our own state
    /// may have lost it.
    pub fn claim(&mut self, by: u8, claim: Claim, has_lost: bool, now_s: u64) -> Claimed {
        let known = self.incarnations.iter().find(|incarnation| incarnation.id == claim.incarnation);
        match known {
            Some(incarnation) if incarnation.held.contains_key(&claim.counter) => {
                return match incarnation.differs(claim.counter, &claim.hash) {
                    true => Claimed::Contradicts(Contradiction { counter: claim.counter, cause: Cause::Claim(by) }),
                    false => Claimed::Nothing,
                };
            }
            // A liar's.
            Some(incarnation) if claim.counter > incarnation.highest.saturating_add(CLAIM_AHEAD_MAX) => {
                return Claimed::Nothing;
            }
            None if claim.counter > CLAIM_AHEAD_MAX => return Claimed::Nothing,
            Some(incarnation) if claim.counter > incarnation.highest => {}
            Some(incarnation) if incarnation.gap_of(claim.counter).is_some() => {}
            None if !has_lost && !self.former.contains(&claim.incarnation) => {}
            _ => return Claimed::Nothing,
        }
        let mut known = self.incarnations.iter_mut().find(|known| known.id == claim.incarnation);
        let is_news = known.as_mut().is_some_and(|known| known.note_claimed(by, claim.counter, now_s));
        let progress = Progress::begin(now_s);
        match self.claims.entry(by) {
            Entry::Occupied(before)
                if before.get().claim.incarnation == claim.incarnation
                    && before.get().claim.counter >= claim.counter =>
            {
                return if is_news { Claimed::Kept } else { Claimed::Nothing };
            }
            Entry::Occupied(mut before) => {
                // It is missing as long as before: who claims more and more puts no alert off, and makes nobody ask all the time.
                let known = before.get().progress;
                let waits = (known.last..known.last.saturating_add(CLAIM_ASKED_ANEW_S)).contains(&now_s);
                let (asked, last) = if waits { (known.asked, known.last) } else { (0, now_s) };
                before.insert(KeptClaim { claim, progress: Progress { asked, last, ..known } });
            }
            Entry::Vacant(none) => drop(none.insert(KeptClaim { claim, progress })),
        }
        self.settle(now_s);
        Claimed::Kept
    }

    /// The latest message, for those who ask what we have seen.
    pub fn latest(&self) -> Option<([u8; 16], u64, TranscriptHash)> {
        let current = self.incarnations.first()?;
        let held = current.held.get(&current.highest)?;
        Some((current.id, current.highest, held.hash))
    }

    /// The hash of the message before this one, if it is here.
    pub fn hash_before(&self, incarnation: &[u8; 16], counter: u64) -> Option<TranscriptHash> {
        let incarnation = self.incarnations.iter().find(|known| known.id == *incarnation)?;
        incarnation.held.get(&counter.checked_sub(1)?).map(|held| held.hash)
    }

    /// All that is missing: between messages that are here, and behind them by what others say.
    pub fn open(&self) -> Vec<Open> {
        let between = self.incarnations.iter().flat_map(|incarnation| {
            let (gaps, will_not_come) = (incarnation.gaps.iter(), incarnation.will_not_come());
            gaps.flat_map(move |(from, gap)| {
                let open = Ranges::of(*from, gap.to).without(&will_not_come);
                pieces(incarnation.id, &open, &[(None, gap.progress)])
            })
        });
        between.chain(self.ahead()).collect()
    }

    /// Something that [`AuthorRecord::open`] handed out was asked for.
    pub fn note_asked(&mut self, open: &Open, now_s: u64) {
        for progress in self.progress_of(open).filter(|progress| progress.is_due(now_s)) {
            (progress.asked, progress.last) = (progress.asked + 1, now_s);
        }
    }

    /// A person was told of something that [`AuthorRecord::open`] handed out.
    pub fn note_told(&mut self, open: &Open, now_s: u64) {
        self.progress_of(open).filter(|progress| progress.is_alarming(now_s)).for_each(|told| told.is_told = true);
    }

    fn progress_of(&mut self, open: &Open) -> impl Iterator<Item = &mut Progress> {
        let incarnation = self.incarnations.iter_mut().find(|known| known.id == open.incarnation);
        let gap = incarnation.and_then(|known| known.gap_of(open.from).and_then(|from| known.gaps.get_mut(&from)));
        let is_of_it = |by: u8| open.progress.iter().any(|(other, _)| *other == Some(by));
        let claims = self.claims.iter_mut().filter(move |(by, _)| is_of_it(**by)).map(|(_, kept)| &mut kept.progress);
        gap.map(|gap| &mut gap.progress).into_iter().chain(claims)
    }

    /// Whether anything is kept of what others say.
    pub fn has_claims(&self) -> bool {
        !self.claims.is_empty() || self.incarnations.iter().any(|known| !known.claimed.is_empty())
    }

    /// Whether a claim is to be let go: by somebody who is blocked, or one that came to nothing for too long.
    pub fn has_stale_claim(&self, is_blocked: impl Fn(u8) -> bool, now_s: u64) -> bool {
        self.claims.iter().any(|(by, kept)| is_blocked(*by) || is_stale(kept, &self.incarnations, now_s))
            || self.incarnations.iter().any(|known| known.claimed.keys().any(|by| is_blocked(*by)))
    }

    /// Lets go of those claims. What somebody who is blocked ever said to have, its author can withdraw, or has.
    pub fn forget_stale_claims(&mut self, is_blocked: impl Fn(u8) -> bool, now_s: u64) {
        let incarnations = &mut self.incarnations;
        incarnations.iter_mut().for_each(|known| known.claimed.retain(|by, _| !is_blocked(*by)));
        self.claims.retain(|by, kept| !is_blocked(*by) && !is_stale(kept, incarnations, now_s));
    }

    /// Whether a person was told of such a contradiction.
    pub fn is_told(&self, cause: Cause) -> bool {
        self.told & cause.bit() != 0
    }

    /// A person was told of a contradiction, or is to be told when they can.
    pub fn note_contradiction(&mut self, Contradiction { counter, cause }: Contradiction, is_told: bool) {
        match is_told {
            true => {
                self.told |= cause.bit();
                self.untold.remove(&cause.number());
            }
            false => drop(self.untold.entry(cause.number()).or_insert(counter)),
        }
    }

    /// Of which a person is still to be told.
    pub fn untold(&self) -> Vec<Contradiction> {
        let cause = |(number, counter): (&u8, &u64)| {
            Some(Contradiction { counter: *counter, cause: Cause::of_number(*number)? })
        };
        self.untold.iter().filter_map(cause).collect()
    }

    /// Where an incarnation is kept, from now on if it is new.
    fn incarnation(&mut self, id: &[u8; 16]) -> usize {
        if let Some(place) = self.incarnations.iter().position(|known| known.id == *id) {
            return place;
        }
        if let [_, older] = &self.incarnations[..] {
            self.former.push(older.id);
            self.incarnations.pop();
            if self.former.len() > FORMER_INCARNATIONS_MAX {
                self.former.remove(0);
            }
        }
        self.told = 0;
        let mut incarnation = Incarnation::new(*id);
        let claims = self.claims.iter().filter(|(_, kept)| kept.claim.incarnation == *id);
        claims.for_each(|(by, kept)| incarnation.add_claimed(*by, kept.claim.counter));
        self.incarnations.push(incarnation);
        self.incarnations.len() - 1
    }

    /// The time of the first message of an incarnation: behind those of the one before it.
    fn behind_others(&self, place: usize, time: Timestamp) -> Timestamp {
        let others = self.incarnations.iter().enumerate().filter(|(other, _)| *other != place);
        let before = others.filter(|(_, other)| other.last_time <= time);
        let last = before.filter_map(|(_, other)| other.held.last_key_value()).map(|(_, held)| held.time.next()).max();
        last.map_or(time, |last| time.max(last))
    }

    /// Lets go of claims, and of what is withdrawn, about what is here, or can never be compared.
    fn settle(&mut self, now_s: u64) {
        self.incarnations.iter_mut().for_each(|known| known.settle_withdrawn(now_s));
        let incarnations = &self.incarnations;
        self.claims.retain(|_, KeptClaim { claim, .. }| {
            let known = incarnations.iter().find(|known| known.id == claim.incarnation);
            known.is_none_or(|known| claim.counter > known.highest || known.gap_of(claim.counter).is_some())
        });
    }

    /// The incarnation whose latest message is the latest by its author's clock is the current one.
    fn order(&mut self) {
        self.incarnations.sort_by_key(|incarnation| std::cmp::Reverse(incarnation.last_time));
    }

    /// What others have behind all that is here, by incarnation.
    fn ahead(&self) -> impl Iterator<Item = Open> {
        type Ahead = (Ranges, Vec<(Option<u8>, Progress)>);
        let mut ahead: BTreeMap<[u8; 16], Ahead> = BTreeMap::new();
        for (by, KeptClaim { claim, progress }) in &self.claims {
            let Claim { incarnation, counter, .. } = *claim;
            let known = self.incarnations.iter().find(|known| known.id == incarnation);
            let from = known.map_or(0, |known| known.highest).saturating_add(1);
            if counter < from {
                continue;
            }
            let (all, progresses) = ahead.entry(incarnation).or_default();
            all.add(from, counter);
            progresses.push((Some(*by), *progress));
        }
        ahead.into_iter().flat_map(|(incarnation, (all, progress))| {
            let known = self.incarnations.iter().find(|known| known.id == incarnation);
            let open = known.map_or_else(|| all.clone(), |known| all.without(&known.will_not_come()));
            pieces(incarnation, &open, &progress)
        })
    }
}

/// What is claimed of an incarnation that has written may be missing in truth: a person is told first.
fn is_stale(kept: &KeptClaim, incarnations: &[Incarnation], now_s: u64) -> bool {
    let is_known = incarnations.iter().any(|known| known.id == kept.claim.incarnation);
    (!is_known || kept.progress.is_told) && now_s >= kept.progress.since.saturating_add(CLAIM_LIFETIME_S)
}

impl Progress {
    /// Whether it is time to ask for it, once more.
    pub fn is_due(&self, now_s: u64) -> bool {
        let place = usize::try_from(self.asked).unwrap_or(usize::MAX);
        // A time in the future was noted before the clock was set back.
        let waits = |wait: &u64| (self.last..self.last.saturating_add(*wait)).contains(&now_s);
        GAP_WAITS_S.get(place).is_some_and(|wait| !waits(wait))
    }

    /// Whether it will be asked for some time.
    #[cfg(test)]
    pub fn is_hopeful(&self) -> bool {
        usize::try_from(self.asked).is_ok_and(|asked| asked < GAP_WAITS_S.len())
    }

    /// Whether a person is to be told of it.
    pub fn is_alarming(&self, now_s: u64) -> bool {
        !self.is_told && now_s >= self.since.saturating_add(GAP_ALERT_S)
    }
}

mod withdrawn;

#[cfg(test)]
mod tests;
