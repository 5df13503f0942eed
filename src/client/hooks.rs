//! Hooks: what has happened that a person may want a program of theirs to be run for (docs/filesystem.md, "Hooks").
//!
//! The engine only notes it while a batch is put together, and hands it out once the batch's files stand. A hook is a hint,
//! as an event of the kernel's is: one that a crash, a full queue or a refusal swallows is not made up for, since the
//! directory says all that it would have said. That is why nothing of this is recorded, and why each is run once at most.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::alerts;
use super::delivery::{self, Delivery, Recipient, State};
use super::engine::Engine;
use super::hook_file::{self, Hook};
use super::pending;
use crate::clock::Timestamp;
use crate::limits::HOOKS_QUEUE_MAX;
use crate::wire::journal::{FileIdentity, Step};

/// Something for which a hook is to be run.
#[derive(Debug)]
pub struct Occasion {
    /// Which.
    pub hook: Hook,
    /// What it is about, relative to the root.
    pub file: PathBuf,
    /// The directory of the conversation, relative to the root, where it is about a message.
    pub conversation: Option<PathBuf>,
    /// What it is told besides.
    pub variables: Vec<(&'static str, String)>,
}

/// What this batch gives occasion for, and which hooks are not run.
#[derive(Debug, Default)]
pub struct Hooks {
    occasions: Vec<Occasion>,
    refused: BTreeMap<Hook, Refusal>,
    failed: BTreeMap<Hook, Failed>,
    /// Something was refused behind a commit: it is to be said with the next.
    look_is_due: bool,
}

/// A hook that was run and did not end well, since it last did.
#[derive(Debug)]
struct Failed {
    problem: String,
    times: u64,
}

/// A hook that is not run.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    /// What is wrong and what to do.
    text: String,
    /// Which file the system would not run; none where we would not.
    tried: Option<FileIdentity>,
}

impl Hooks {
    /// Which hooks are not run, and why: for `status`.
    pub fn refused(&self) -> impl Iterator<Item = (Hook, &str)> {
        self.refused.iter().map(|(hook, refusal)| (*hook, refusal.text.as_str()))
    }

    /// Which hooks did not end well, and how often since they last did: for `status`. Not an alert, for which a hook is run.
    pub fn failed(&self) -> impl Iterator<Item = (Hook, String)> {
        self.failed.iter().map(|(hook, Failed { problem, times })| {
            let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            (*hook, format!("{problem}, {times} since it last ended well"))
        })
    }

    pub(super) fn ended(&mut self, hook: Hook, problem: Option<String>) {
        match problem {
            None => drop(self.failed.remove(&hook)),
            Some(problem) => {
                let times = self.failed.get(&hook).map_or(0, |failed| failed.times) + 1;
                self.failed.insert(hook, Failed { problem, times });
            }
        }
    }

    /// A recipient's line in the `.delivery/` file `path` has changed.
    pub(super) fn note_state(&mut self, path: &Path, delivery: &Delivery, line: &Recipient) {
        let (hook, reason) = match &line.state {
            State::Delivered => (Hook::Delivered, None),
            State::Failed(reason) => (Hook::Failed, Some(reason)),
            State::Queued | State::Sealed | State::Accepted => return,
        };
        let Some((directory, file)) = message_of(path) else { return };
        let mut variables = about(delivery);
        variables.push(("CHATTERBOX_TO", line.name.clone()));
        variables.push(("CHATTERBOX_TO_FINGERPRINT", line.fingerprint.to_string()));
        variables.extend(reason.map(|reason| ("CHATTERBOX_REASON", one_line(reason))));
        self.occasions.push(Occasion { hook, file, conversation: Some(directory.to_owned()), variables });
    }

    /// What these steps make appear: alerts, and messages of others in conversations. Not what strangers wrote into
    /// `requests/`: nothing is done by itself for them.
    pub(super) fn note_appearing<'a>(
        &mut self,
        steps: impl Iterator<Item = &'a Step>,
        deliveries: &BTreeMap<PathBuf, Delivery>,
    ) {
        let received: HashMap<PathBuf, (&Path, &Delivery)> = deliveries
            .iter()
            .filter(|(path, delivery)| delivery.recipients.is_empty() && path.starts_with("conversations"))
            .filter_map(|(path, delivery)| message_of(path).map(|(directory, file)| (file, (directory, delivery))))
            .collect();
        for path in steps.filter_map(pending::placed) {
            if path.starts_with("alerts") {
                let (hook, file) = (Hook::Alert, path.to_owned());
                self.occasions.push(Occasion { hook, file, conversation: None, variables: Vec::new() });
            } else if let Some((directory, delivery)) = received.get(path) {
                let (hook, file, conversation) = (Hook::Message, path.to_owned(), Some(directory.to_path_buf()));
                self.occasions.push(Occasion { hook, file, conversation, variables: about(delivery) });
            }
        }
    }
}

/// The directory of a conversation and the message in it that a `.delivery/` file is about.
fn message_of(path: &Path) -> Option<(&Path, PathBuf)> {
    let directory = path.parent().filter(|parent| parent.ends_with(delivery::DIRECTORY))?.parent()?;
    Some((directory, directory.join(path.file_name()?)))
}

fn about(delivery: &Delivery) -> Vec<(&'static str, String)> {
    vec![
        ("CHATTERBOX_ID", delivery.id.to_string()),
        ("CHATTERBOX_FROM", delivery.from_name.clone()),
        ("CHATTERBOX_FROM_FINGERPRINT", delivery.from.to_string()),
    ]
}

/// A reason may tell what another program said.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

impl Engine {
    /// What is to be told once the files of a batch stand: of what there are hooks for.
    pub(super) fn take_occasions(&mut self) -> Vec<Occasion> {
        let mut occasions = std::mem::take(&mut self.hooks.occasions);
        let named: BTreeSet<Hook> = occasions.iter().map(|occasion| occasion.hook).collect();
        for hook in named {
            let examined = hook_file::examine(&self.root, hook);
            self.hooks.look_is_due |= examined.is_err();
            if !matches!(examined, Ok(Some(_))) {
                occasions.retain(|occasion| occasion.hook != hook);
            }
        }
        occasions
    }

    /// Looks at all hooks, and says of those that are not run why. Each reason once.
    pub(super) fn look_at_hooks(&mut self, now: Timestamp) {
        self.hooks.look_is_due = false;
        for hook in Hook::ALL {
            match hook_file::examine(&self.root, hook) {
                Ok(found) => {
                    // What the system would not run is tried again, but the same file is no news.
                    let identity = found.map(|found| found.identity());
                    if identity.is_none() {
                        self.hooks.failed.remove(&hook);
                    }
                    let is_still = |refusal: &Refusal| refusal.tried.is_some() && refusal.tried == identity;
                    if !self.hooks.refused.get(&hook).is_some_and(is_still) {
                        self.hooks.refused.remove(&hook);
                    }
                }
                Err(fault) => self.refuse_hook(hook, Refusal { text: fault.to_string(), tried: None }, now),
            }
        }
    }

    /// The same, where something was refused: what a person mends is seen soon.
    pub(super) fn look_at_hooks_when_due(&mut self, now: Timestamp) {
        if self.hooks.look_is_due || !self.hooks.refused.is_empty() || !self.hooks.failed.is_empty() {
            self.look_at_hooks(now);
        }
    }

    /// The system would not run a hook.
    pub(super) fn hook_not_started(&mut self, hook: Hook, problem: &str, now: Timestamp) {
        let Ok(Some(found)) = hook_file::examine(&self.root, hook) else { return };
        let text = format!("It cannot be run: {problem}.\nSee that it is a program, or a script that begins with #!.");
        self.refuse_hook(hook, Refusal { text, tried: Some(found.identity()) }, now);
    }

    fn refuse_hook(&mut self, hook: Hook, refusal: Refusal, now: Timestamp) {
        if self.hooks.refused.get(&hook) == Some(&refusal) {
            return;
        }
        let text = format!("The hook {} is not run. {}", hook.path().display(), refusal.text);
        alerts::raise(&self.root, &mut self.pending, now, "hook", hook.file_name(), &text);
        self.hooks.refused.insert(hook, refusal);
    }
}

/// The way from the engine to [`super::hook_runner`]. It never waits: what does not fit is dropped and counted.
#[derive(Debug)]
pub struct HookQueue {
    queue: mpsc::Sender<Occasion>,
    missed: BTreeMap<Hook, u64>,
}

impl HookQueue {
    /// With the end that the runner takes from.
    pub fn new() -> (Self, mpsc::Receiver<Occasion>) {
        let (queue, taken) = mpsc::channel(HOOKS_QUEUE_MAX);
        (Self { queue, missed: BTreeMap::new() }, taken)
    }

    /// Lets hooks be run.
    pub fn add(&mut self, occasions: Vec<Occasion>) {
        let mut missed = 0_u64;
        for occasion in occasions {
            let hook = occasion.hook;
            if self.queue.try_send(occasion).is_err() {
                *self.missed.entry(hook).or_default() += 1;
                missed += 1;
            }
        }
        if missed > 0 {
            tracing::warn!(missed, "hooks were not run: too many wait");
        }
    }

    /// How often each was not run because too many waited: for `status`.
    pub fn missed(&self) -> impl Iterator<Item = (Hook, u64)> {
        self.missed.iter().map(|(hook, count)| (*hook, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::identity::{Fingerprint, MessageId};

    fn delivery(recipients: Vec<Recipient>) -> Delivery {
        Delivery {
            id: MessageId([1; 16]),
            from: Fingerprint([3; 32]),
            from_name: "alice".into(),
            counter: 4,
            file: "m".into(),
            outbox: None,
            conversation: None,
            recipients,
        }
    }

    fn line(state: State) -> Recipient {
        Recipient {
            fingerprint: Fingerprint([2; 32]),
            name: "bob".into(),
            state,
            since: Timestamp::default(),
            progress: None,
        }
    }

    #[test]
    fn only_the_end_of_a_way_gives_occasion_and_a_reason_is_one_line() {
        let mut hooks = Hooks::default();
        let path = Path::new("conversations/x/.delivery/m");
        for state in [State::Queued, State::Sealed, State::Accepted] {
            hooks.note_state(path, &delivery(Vec::new()), &line(state));
        }
        assert!(hooks.occasions.is_empty());
        hooks.note_state(path, &delivery(Vec::new()), &line(State::Failed("gone\nFROM=\u{1b}[1m".into())));
        let occasion = hooks.occasions.pop().unwrap();
        assert_eq!((occasion.hook, occasion.file.as_path()), (Hook::Failed, Path::new("conversations/x/m")));
        let reason = occasion.variables.iter().find(|(name, _)| *name == "CHATTERBOX_REASON").unwrap();
        assert_eq!(reason.1, "gone FROM= [1m");
    }

    #[test]
    fn messages_of_others_in_conversations_and_alerts_give_occasion_and_nothing_else() {
        let mut hooks = Hooks::default();
        let places = ["conversations/x/theirs", "conversations/x/ours", "requests/y/strange", "alerts/z"];
        let step = |path: &&str| Step::Place { path: path.into(), scratch: "s".into(), bytes: Vec::new().into() };
        let places: Vec<Step> = places.iter().map(step).collect();
        let deliveries = BTreeMap::from([
            ("conversations/x/.delivery/theirs".into(), delivery(Vec::new())),
            ("conversations/x/.delivery/ours".into(), delivery(vec![line(State::Queued)])),
            ("requests/y/.delivery/strange".into(), delivery(Vec::new())),
        ]);
        hooks.note_appearing(places.iter(), &deliveries);
        let noted: Vec<_> = hooks.occasions.iter().map(|occasion| (occasion.hook, occasion.file.as_path())).collect();
        assert_eq!(noted, [(Hook::Message, Path::new("conversations/x/theirs")), (Hook::Alert, Path::new("alerts/z"))]);
    }

    #[test]
    fn what_does_not_fit_the_queue_is_counted_and_nobody_waits() {
        let (mut queue, taken) = HookQueue::new();
        let occasion =
            || Occasion { hook: Hook::Message, file: PathBuf::new(), conversation: None, variables: Vec::new() };
        queue.add((0..HOOKS_QUEUE_MAX + 3).map(|_| occasion()).collect());
        assert_eq!(queue.missed().collect::<Vec<_>>(), [(Hook::Message, 3)]);
        assert_eq!(taken.len(), HOOKS_QUEUE_MAX);
    }
}
