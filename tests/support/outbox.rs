//! One person who drops files for another, and the count of what must arrive: every content exactly once at either side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{User, World, entries};

/// How often a loop goes round that looks for an instant which is hard to hit: `CHATTERBOX_ROUNDS` asks for more.
pub fn rounds(short: usize) -> usize {
    std::env::var("CHATTERBOX_ROUNDS").map_or(short, |text| text.parse::<usize>().unwrap().max(short))
}

/// Alice, whose outbox is under test, Bob, who hears her, and what she means him to hear.
pub struct Pair {
    // Before the world: the daemons end before their directories go.
    pub alice: User,
    pub bob: User,
    pub world: World,
    expected: Vec<Vec<u8>>,
    fences: usize,
}

impl Pair {
    pub fn new() -> Self {
        let mut pair = Self::not_started();
        pair.alice.start();
        pair
    }

    /// Alice's daemon does not run yet.
    pub fn not_started() -> Self {
        let world = World::new();
        let (alice, mut bob) = (world.user("alice"), world.user("bob"));
        alice.add(&bob);
        bob.add(&alice);
        // So that what is too large is soon made.
        alice.set("send_limit = \"10 KiB\"");
        bob.start();
        Self { alice, bob, world, expected: Vec::new(), fences: 0 }
    }

    /// `outbox/DIRECTORY`, made if it is not there.
    pub fn outbox(&self, directory: &str) -> PathBuf {
        let path = self.alice.at("outbox").join(directory);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A scratch directory beside the root, on its filesystem.
    pub fn elsewhere(&self) -> PathBuf {
        let path = self.world.scratch.path().join("elsewhere");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// One content more that must arrive exactly once. Expected twice, it must arrive twice.
    pub fn expect(&mut self, content: impl Into<Vec<u8>>) {
        self.expected.push(content.into());
    }

    /// The names of the messages that stand in conversations, without reading them.
    fn names(user: &User) -> Vec<String> {
        let files = entries(&user.at("conversations")).into_iter().flat_map(|place| entries(&place));
        let names = files.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name != "metadata.toml" && !name.starts_with('.')).collect()
    }

    /// How many there are.
    pub fn count(user: &User) -> usize {
        Self::names(user).len()
    }

    /// What stands in outbox directories and is not ignored by its name, or is just being taken.
    pub fn left(&self) -> Vec<PathBuf> {
        let ignored = |name: &str| {
            name == "metadata.toml" || name.starts_with('.') || name.ends_with(".error") || name.ends_with('~')
        };
        let mut places = entries(&self.alice.at("outbox"));
        places.retain(|path| path.is_dir());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut left: Vec<PathBuf> =
            places.iter().flat_map(|place| entries(place)).filter(|path| !ignored(&name(path))).collect();
        left.extend(
            entries(&self.alice.at("tmp/chatterboxd")).into_iter().filter(|path| name(path).starts_with("taken-")),
        );
        left
    }

    /// Waits until as many messages as are expected stand at Bob's, however long that takes while it goes on.
    pub fn wait_for_all(&self) {
        let wanted = self.expected.len();
        let mut there = 0;
        while there < wanted {
            there = self.bob.wait_for(&format!("message {} of {wanted}", there + 1), || {
                let count = Self::count(&self.bob);
                (count > there).then_some(count)
            });
        }
    }

    /// Waits until nothing but what `stays` is left in the outbox.
    pub fn wait_until_taken(&self, stays: &[PathBuf]) {
        self.alice
            .wait_for("everything to be taken", || self.left().iter().all(|path| stays.contains(path)).then_some(()));
    }

    /// Everything arrives, nothing else does, and nothing twice: at Bob's, and as copies at Alice's.
    pub fn everything_arrives_once(&mut self) {
        self.wait_for_all();
        self.nothing_else_arrives(&[]);
    }

    /// Nothing but what is expected is or will be sent, of all that was dropped so far; files that `stay` do stay.
    pub fn nothing_else_arrives(&mut self, stay: &[PathBuf]) {
        // What would be sent a second time is in the outbox, or on its way before what is dropped now.
        for _ in 0..2 {
            self.wait_until_taken(stay);
            self.fence();
        }
        self.wait_until_taken(stay);
        for (user, place) in [(&self.bob, "the recipient's"), (&self.alice, "the sender's")] {
            let found = user.messages().into_iter().map(|(_, _, content)| content);
            let differences = differences(&self.expected, found.collect());
            assert!(differences.is_empty(), "{place}:\n{}", differences.join("\n"));
        }
    }

    /// One message more, and until it has arrived: whatever the daemon read before has arrived too.
    fn fence(&mut self) {
        self.fences += 1;
        let fence = format!("fence-{}.txt", self.fences);
        self.alice.move_file("bob", &fence, &fence);
        self.expect(fence.as_bytes());
        let ending = format!("Z-alice-{fence}");
        let mut there = 0;
        let mut arrived = false;
        while !arrived {
            (there, arrived) = self.bob.wait_for(&fence, || {
                let names = Self::names(&self.bob);
                let arrived = names.iter().any(|name| name.ends_with(&ending));
                (arrived || names.len() > there).then_some((names.len(), arrived))
            });
        }
    }

    /// The same where not every content must arrive, but none twice and nothing else: those of `certain` must.
    pub fn each_arrives_at_most_once(&mut self, possible: &[Vec<u8>], certain: &[Vec<u8>]) {
        self.wait_until_taken(&[]);
        // A file that was read and is gone since is not there, and its message not yet.
        self.fence();
        let certain: BTreeSet<&Vec<u8>> = certain.iter().collect();
        self.bob.wait_for("what must arrive", || {
            let heard: BTreeSet<Vec<u8>> = contents(&self.bob).into_iter().collect();
            certain.iter().all(|content| heard.contains(*content)).then_some(())
        });
        let before: BTreeSet<Vec<u8>> = self.expected.iter().cloned().collect();
        let possible: BTreeSet<&Vec<u8>> = possible.iter().filter(|content| !before.contains(*content)).collect();
        let arrived: BTreeSet<Vec<u8>> =
            contents(&self.alice).into_iter().filter(|content| possible.contains(content)).collect();
        arrived.into_iter().for_each(|content| self.expect(content));
        self.everything_arrives_once();
    }
}

/// The content of all messages.
pub fn contents(user: &User) -> Vec<Vec<u8>> {
    user.messages().into_iter().map(|(_, _, content)| content).collect()
}

/// What is missing and what is too much.
fn differences(expected: &[Vec<u8>], found: Vec<Vec<u8>>) -> Vec<String> {
    let mut counts: BTreeMap<Vec<u8>, (usize, usize)> = BTreeMap::new();
    expected.iter().for_each(|content| counts.entry(content.clone()).or_default().0 += 1);
    found.into_iter().for_each(|content| counts.entry(content).or_default().1 += 1);
    let different = counts.into_iter().filter(|(_, (expected, found))| expected != found);
    let show = |content: &[u8]| {
        let text = String::from_utf8_lossy(&content[..content.len().min(40)]);
        format!("{text:?} ({} bytes)", content.len())
    };
    different
        .map(|(content, (wanted, there))| format!("  {there} times instead of {wanted}: {}", show(&content)))
        .collect()
}

/// Bytes of every value, different for each label, longer or shorter.
pub fn content(label: &str) -> Vec<u8> {
    let seed = label.bytes().fold(7_usize, |seed, byte| (seed * 31 + usize::from(byte)) % 9_973);
    let noise = (0..seed).map(|position| (position * 7 + seed / 3) as u8);
    label.bytes().chain([b'\n']).chain(noise).collect()
}

/// Runs a tool, which must succeed.
pub fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
}
