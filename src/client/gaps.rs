//! What is missing is shown in `.gaps`, asked for again from its author, and after a day told to a person (design, section 4).

use std::collections::BTreeMap;

use super::alerts;
use super::engine::Engine;
use super::gap_file::{self, GapLine};
use super::transcripts::Place;
use crate::clock::Timestamp;
use crate::limits::{GAP_WAITS_S, NOTE_MISSING_MAX};
use crate::wire::author::Progress;
use crate::wire::control::{Control, Missing};
use crate::wire::identity::Fingerprint;

impl Engine {
    /// Once a second: asks for what has been missing for a while, and tells of what has been for long.
    pub(super) fn look_for_gaps(&mut self, now: Timestamp) {
        let now_s = now.seconds();
        let recent = |asked: &u64| (*asked..asked.saturating_add(GAP_WAITS_S[0])).contains(&now_s);
        self.transcripts.asked.retain(|_, asked| recent(asked));
        let mut wanted: BTreeMap<Fingerprint, Vec<Missing>> = BTreeMap::new();
        for place in self.transcripts.open() {
            let (conversation, author) = place;
            // Nothing is asked of somebody whose answer would be dropped.
            let is_ours = self.conversations.get(&conversation).is_some_and(|record| record.accepted)
                && !self.people.is_blocked(&author);
            let Some(theirs) = self.transcripts.get(&place).filter(|_| is_ours) else { continue };
            for open in theirs.open() {
                // What comes in parts is not missing while they come.
                if self.arriving.comes(&place, &open, now_s) {
                    continue;
                }
                if open.progress.is_alarming(now_s) {
                    self.transcripts
                        .change(&place, |theirs| theirs.progress_mut(&open).map(|progress| progress.is_told = true));
                    self.alert_gap(&place, open.from, open.to, now);
                }
                // What is on its way to us is not missing.
                let may_ask = self.presence.has_settled() && !self.transcripts.asked.contains_key(&author);
                let missing = wanted.entry(author).or_default();
                if may_ask && open.progress.is_due(now_s) && missing.len() < NOTE_MISSING_MAX {
                    let (incarnation, from, to) = (open.incarnation, open.from, open.to);
                    missing.push(Missing { conversation, incarnation, from, to });
                    let asked =
                        |progress: &mut Progress| (progress.asked, progress.last) = (open.progress.asked + 1, now_s);
                    self.transcripts.change(&place, |theirs| theirs.progress_mut(&open).map(asked));
                }
            }
        }
        for (author, missing) in wanted.into_iter().filter(|(_, missing)| !missing.is_empty()) {
            self.transcripts.asked.insert(author, now_s);
            self.queue_note(author, &Control { missing, ..Control::default() }, now);
        }
    }

    /// Whether something is missing that will be asked for.
    #[cfg(test)]
    pub fn will_ask(&self) -> bool {
        let open = self.transcripts.open().into_iter().filter_map(|place| self.transcripts.get(&place));
        open.flat_map(|theirs| theirs.open()).any(|open| open.progress.is_hopeful())
    }

    /// Tells a person of what is missing.
    pub(super) fn alert_gap(&mut self, place: &Place, from: u64, to: u64, now: Timestamp) {
        let Some(record) = self.conversations.get(&place.0).filter(|record| record.accepted) else { return };
        let (name, directory) = (self.people.name(&place.1), &record.directory);
        let which = match to - from {
            0 => format!("Message {from} of {name} in {directory} is missing"),
            _ => format!("Messages {from} to {to} of {name} in {directory} are missing"),
        };
        let text = format!(
            "{which}, and has not come again although {name} was asked for it.\n\
             Ask {name} to send it again. If messages keep missing, a server withholds them, or somebody claims what was never \
             written."
        );
        alerts::raise(&self.root, &mut self.pending, now, "gap", &place.1.short(8), &text);
    }

    /// Writes `.gaps` where it changed. Of conversations that wait nothing is shown.
    pub(super) fn write_gaps(&mut self) {
        for id in self.transcripts.take_changed() {
            if !self.conversations.get(&id).is_some_and(|record| record.accepted) {
                continue;
            }
            let Some(place) = self.conversations.standing_place(&self.root, &id, &self.pending) else { continue };
            let path = place.join(gap_file::FILE);
            let text: String = self.gap_lines(&self.transcripts.open_in(&id)).iter().map(GapLine::to_string).collect();
            match text.is_empty() {
                true => self.pending.remove(path),
                false => self.pending.put(path, text),
            }
        }
    }

    fn gap_lines(&self, places: &[Place]) -> Vec<GapLine> {
        let theirs = places.iter().filter_map(|place| self.transcripts.get(place));
        let lines = theirs.flat_map(|record| {
            record.open().into_iter().map(|open| GapLine {
                author: record.author,
                from: open.from,
                to: open.to,
                since: Timestamp::from_micros(open.progress.since.saturating_mul(1_000_000)),
                name: self.people.name(&record.author),
            })
        });
        lines.collect()
    }
}
