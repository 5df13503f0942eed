//! Two people who write to each other, whatever befalls them: what they say, and whether both ends agree on it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{User, entries, tree, wait_for};

/// What somebody says for the `number`th time: of several lengths, and nothing twice.
pub fn content(number: usize, author: &str) -> String {
    format!("{number} from {author}\n{}", "and more\n".repeat(number % 7 * 150))
}

/// Whether what the first and the second have sent stands at both.
pub fn has_arrived(people: &[User; 2], sent: &[Vec<String>; 2]) -> bool {
    let has_all = |at: &User, from: usize| at.heard_from(&people[from].name).len() >= sent[from].len();
    people.iter().all(|at| (0..2).all(|from| has_all(at, from)))
}

/// Waits until everything that was sent stands at both: each content once, and nothing else; and until nobody waits for anything,
/// and nothing is left over. What was sent twice is noticed if something was sent behind it.
pub fn everything_arrives(scratch: &Path, people: &[User; 2], sent: &[Vec<String>; 2]) {
    wait_for(scratch, "everything to arrive", || has_arrived(people, sent).then_some(()));
    for (author, sent) in people.iter().zip(sent) {
        for at in people {
            let mut heard = at.heard_from(&author.name);
            heard.sort_by_key(|text| text.split(' ').next().and_then(|number| number.parse::<usize>().ok()));
            assert_eq!(&heard, sent, "{} at {}\n{}", author.name, at.name, tree(&at.root));
        }
    }
    let names = |directory: PathBuf| {
        let names = entries(&directory).into_iter();
        names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    for user in people {
        assert_eq!(user.messages().len(), sent[0].len() + sent[1].len(), "{}", tree(&user.root));
        user.wait_for("a status without a queue or a pause", || {
            let text = fs::read_to_string(user.at("status")).ok()?;
            (text.contains("\nqueue: 0\n") && !text.contains("\npaused: ")).then_some(())
        });
        user.wait_for("an empty outbox", || {
            let directories = entries(&user.at("outbox")).into_iter().filter(|path| path.is_dir());
            let mut dropped = directories.flat_map(names);
            dropped.all(|name| name.starts_with('.') || name == "metadata.toml").then_some(())
        });
        user.wait_for("a tidy tmp/chatterboxd", || {
            names(user.at("tmp/chatterboxd")).iter().all(|name| name.starts_with("journal-")).then_some(())
        });
        for empty in ["alerts", "requests", "journal/unopened"] {
            assert!(entries(&user.at(empty)).is_empty(), "{empty}\n{}", tree(&user.root));
        }
    }
}
