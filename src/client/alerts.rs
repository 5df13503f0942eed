//! `alerts/`: what a person must know (design, section 2). One file each, named by time and kind, whose first line says
//! what happened and whose second says what to do.

use std::collections::HashSet;
use std::path::Path;

use zeroize::Zeroizing;

use super::pending::Pending;
use super::places;
use super::root::Root;
use crate::clock::Timestamp;
use crate::limits::ALERTS_WAITING_MAX;
use crate::wire::identity::Fingerprint;

/// Where they lie, relative to the root.
pub const DIRECTORY: &str = "alerts";

/// Alerts of one kind about one thing that may lie there unread at a time: a peer that misbehaves again and again
/// fills no disk.
const SAME_MAX: usize = 8;

/// What an alert is about: it is in its name, and tells repeats apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Something that has a name; or nothing in particular, without one.
    One(String),
    /// Somebody, as another told it.
    ByWord {
        /// Of whom.
        of: Fingerprint,
        /// Who told it.
        teller: Fingerprint,
    },
}

impl About {
    /// Somebody.
    pub fn of(fingerprint: &Fingerprint) -> Self {
        Self::One(fingerprint.short(8))
    }

    /// What somebody told of somebody, if it is known who did.
    pub fn by_word(of: &Fingerprint, teller: Option<&Fingerprint>) -> Self {
        teller.map_or_else(|| Self::of(of), |teller| Self::ByWord { of: *of, teller: *teller })
    }

    /// How the names of such alerts end.
    pub fn ending(&self, kind: &str) -> String {
        match self {
            Self::One(about) if about.is_empty() => kind.to_owned(),
            Self::One(about) => format!("{kind}-{about}"),
            Self::ByWord { of, teller } => format!("{kind}-{}-{}", of.short(8), teller.short(8)),
        }
    }

    /// What its repeats have in common. What is told of others counts by who tells it, whomever it is about: anybody can tell of
    /// people who do not exist, as many as they like.
    fn alike(&self, kind: &str) -> Alike {
        match self {
            Self::One(_) => Alike { before: String::new(), between: 0, ending: self.ending(kind) },
            Self::ByWord { teller, .. } => {
                Alike { before: format!("{kind}-"), between: 8, ending: format!("-{}", teller.short(8)) }
            }
        }
    }
}

/// The names of alerts that count as repeats of each other: so they end, with so many bytes before that, and this before those.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    before: String,
    between: usize,
    ending: String,
}

impl Alike {
    fn has(&self, name: &str) -> bool {
        let rest = name.strip_suffix(&self.ending);
        let rest = rest.and_then(|rest| rest.get(..rest.len().checked_sub(self.between)?));
        rest.is_some_and(|rest| rest.ends_with(&self.before))
    }
}

/// Alerts that wait until `alerts/` takes files, in memory: a restart loses them.
#[derive(Debug, Default)]
pub struct Waiting {
    alerts: Vec<Alert>,
    /// Those in the transaction that is not recorded yet: where that fails, they wait on.
    placed: Vec<Alert>,
    /// What had no room since the last commit: until the next one it is not asked again.
    full: HashSet<Alike>,
}

#[derive(Debug)]
struct Alert {
    time: Timestamp,
    kind: String,
    about: String,
    text: String,
}

impl Waiting {
    fn add(&mut self, alert: Alert) {
        let alike = |other: &&Alert| (&other.kind, &other.about) == (&alert.kind, &alert.about);
        match self.alerts.len() < ALERTS_WAITING_MAX && self.alerts.iter().filter(alike).count() < SAME_MAX {
            true => {
                tracing::warn!(kind = alert.kind, "alerts/ takes no files, and the alert waits until it does");
                self.alerts.push(alert);
            }
            false => tracing::warn!(kind = alert.kind, "alerts/ takes no files, and the alert is lost"),
        }
    }

    /// The transaction is recorded.
    pub fn recorded(&mut self) {
        self.placed.clear();
        self.full.clear();
    }

    /// The transaction failed, and everything but these is read anew.
    pub fn take_over(&mut self) -> Self {
        let Self { mut alerts, placed, .. } = std::mem::take(self);
        alerts.extend(placed);
        Self { alerts, ..Self::default() }
    }
}

/// Adds an alert to the transaction, or lets it wait where `alerts/` takes no files, which `status` says then. `kind` is a word for
/// programs, `about` tells repeats apart. Where as many of this kind about this lie there as may be, it is left out.
pub fn raise(root: &Root, pending: &mut Pending, now: Timestamp, kind: &str, about: &str, text: &str) {
    if takes_alerts(root) {
        place(root, pending, now, kind, &About::One(about.to_owned()), text);
    } else {
        let [kind, about, text] = [kind, about, text].map(str::to_owned);
        pending.alerts.add(Alert { time: now, kind, about, text });
    }
}

/// The same for what is told again later if it was not now. True if it was.
pub fn try_raise(root: &Root, pending: &mut Pending, now: Timestamp, kind: &str, about: &About, text: &str) -> bool {
    takes_alerts(root) && place(root, pending, now, kind, about, text)
}

/// Now and then: adds the alerts that waited, under the times at which they were raised.
pub fn raise_waiting(root: &Root, pending: &mut Pending) {
    if pending.alerts.alerts.is_empty() || !takes_alerts(root) {
        return;
    }
    let alerts = std::mem::take(&mut pending.alerts.alerts);
    for Alert { time, kind, about, text } in &alerts {
        place(root, pending, *time, kind, &About::One(about.clone()), text);
    }
    pending.alerts.placed.extend(alerts);
}

fn takes_alerts(root: &Root) -> bool {
    places::takes_files(root, Path::new(DIRECTORY))
}

/// False if there are as many alike as may be.
fn place(root: &Root, pending: &mut Pending, now: Timestamp, kind: &str, about: &About, text: &str) -> bool {
    let (ending, alike) = (about.ending(kind), about.alike(kind));
    if pending.alerts.full.contains(&alike) {
        return false;
    }
    let unread = root.names(DIRECTORY).iter().filter(|name| alike.has(&name.to_string_lossy())).count()
        + pending.reserved_names(Path::new(DIRECTORY)).filter(|name| alike.has(name)).count();
    tracing::warn!(kind, "alert");
    // Several of one moment stand one microsecond apart.
    let paths = (0..=SAME_MAX).map(|later| {
        let time = Timestamp::from_micros(now.micros().saturating_add(u64::try_from(later).unwrap_or(0)));
        Path::new(DIRECTORY).join(format!("{time}-{ending}"))
    });
    let free = paths.filter(|_| unread < SAME_MAX).find(|path| pending.is_free(root, path));
    let is_placed = free.is_some();
    if let Some(path) = free {
        pending.place(path, Zeroizing::new(format!("{text}\n").into_bytes()));
    } else if unread >= SAME_MAX {
        pending.alerts.full.insert(alike);
    }
    is_placed
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::event::Event;

    #[test]
    fn alerts_of_one_moment_stand_beside_each_other_and_have_a_bound() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, mut pending) = (Root::new(scratch.path().to_owned()), Pending::default());
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let mut raise =
            |about: &str| try_raise(&root, &mut pending, now, "undeliverable", &About::One(about.into()), "text");
        let placed: Vec<bool> = (0..=SAME_MAX).map(|_| raise("bob")).collect();
        assert_eq!(placed, [vec![true; SAME_MAX], vec![false]].concat());
        assert!(raise("carol"));
    }

    #[test]
    fn what_one_person_tells_of_others_counts_together_and_apart_from_what_they_do_and_from_what_others_tell() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, mut pending) = (Root::new(scratch.path().to_owned()), Pending::default());
        fs::create_dir(root.alerts()).unwrap();
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let [eve, bob] = [Fingerprint([250; 32]), Fingerprint([251; 32])];
        let unread = About::by_word(&bob, Some(&eve)).ending("gap");
        fs::write(root.alerts().join(format!("{now}-{unread}")), "unread\n").unwrap();
        let mut raise = |kind: &str, about: &About| try_raise(&root, &mut pending, now, kind, about, "text");
        let tales = (0..20).map(|invented| About::by_word(&Fingerprint([invented; 32]), Some(&eve)));
        assert_eq!(tales.filter(|about| raise("gap", about)).count(), SAME_MAX - 1);
        for (kind, about) in [
            ("fork", About::by_word(&bob, Some(&eve))),
            ("gap", About::by_word(&bob, Some(&Fingerprint([252; 32])))),
            ("gap", About::of(&eve)),
            ("gap", About::of(&bob)),
        ] {
            assert!(raise(kind, &about), "{kind} {about:?}");
        }
    }

    #[test]
    fn alerts_wait_for_a_place_that_takes_them_as_many_as_may_lie_there_and_keep_their_times() {
        let mut bench = Bench::new();
        let (path, now) = (bench.root.alerts(), bench.now);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "a person's own").unwrap();
        let tick = |bench: &mut Bench| {
            bench.now = Timestamp::from_micros(bench.now.micros() + 1_000_000);
            bench.engine.handle(Event::Tick, bench.now).unwrap();
            bench.settle();
        };
        let abouts = (0..).map(|number: usize| number.to_string());
        for about in std::iter::repeat_n("bob".to_owned(), SAME_MAX + 1).chain(abouts.take(ALERTS_WAITING_MAX)) {
            raise(&bench.root, &mut bench.engine.pending, now, "damaged", &about, "text");
        }
        let about = About::One("bob".into());
        assert!(!try_raise(&bench.root, &mut bench.engine.pending, now, "gap", &about, "told again later"));
        tick(&mut bench);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a person's own");
        fs::remove_file(&path).unwrap();
        // The transaction that has them fails, and with it goes whatever else is in memory.
        bench.engine.handle(Event::Tick, bench.now).unwrap();
        let waiting = bench.engine.pending.alerts.take_over();
        bench.restart();
        bench.engine.pending.alerts = waiting;
        assert!(bench.root.names(DIRECTORY).is_empty());
        tick(&mut bench);
        tick(&mut bench);
        let names: Vec<String> =
            bench.root.names(DIRECTORY).into_iter().map(|name| name.into_string().unwrap()).collect();
        assert_eq!(names.len(), ALERTS_WAITING_MAX);
        assert_eq!(names.iter().filter(|name| name.ends_with("-damaged-bob")).count(), SAME_MAX);
        assert!(names.contains(&format!("{now}-damaged-0")), "{names:?}");
        assert!(bench.alerts().iter().all(|text| text == "text\n"));
    }
}
