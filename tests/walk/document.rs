//! What docs/filesystem.md promises, read from its own tables.

use std::path::Path;

/// The document, line by line.
pub struct Document(Vec<String>);

/// The rows of a table: the text of each cell.
type Rows = Vec<Vec<String>>;

impl Document {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/filesystem.md");
        let text = std::fs::read_to_string(path).unwrap();
        Self(text.lines().map(str::to_owned).collect())
    }

    /// The lines of a section, up to the next heading of its kind.
    fn section(&self, heading: &str) -> &[String] {
        let start = self.0.iter().position(|line| line == heading).unwrap_or_else(|| panic!("no section {heading:?}"));
        let level = heading.split(' ').next().unwrap();
        let lines = &self.0[start + 1..];
        let is_end = |line: &String| line.split(' ').next().is_some_and(|mark| mark == level || mark == "##");
        &lines[..lines.iter().position(is_end).unwrap_or(lines.len())]
    }

    /// The table of a section that starts with this cell.
    pub fn table(&self, heading: &str, first: &str) -> Rows {
        let start = format!("| {first} |");
        let lines = self.section(heading).iter().skip_while(|line| !line.starts_with(&start)).skip(2);
        let rows: Rows = lines.take_while(|line| line.starts_with('|')).map(|line| cells(line)).collect();
        assert!(!rows.is_empty(), "no table {first:?} in {heading:?}");
        rows
    }

    /// The block of code that has this in it.
    pub fn code(&self, has: &str) -> String {
        let mut blocks = self.0.split(|line| line.starts_with("```"));
        // Every second one is text between two blocks.
        let mut codes = std::iter::from_fn(|| blocks.next().and_then(|_| blocks.next()));
        codes.find(|lines| lines.iter().any(|line| line.contains(has))).expect(has).join("\n")
    }

    /// All that a person can come to see, as what is to be seen: a word for the list it stands in, and the entry.
    pub fn promises(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |list: &str, entries: Vec<String>| {
            found.extend(entries.into_iter().map(|entry| format!("{list}: {entry}")));
        };
        let words = |rows: Rows| rows.into_iter().flat_map(|row| quoted(&row[0])).collect();
        add("path", words(self.table("## Layout", "path")));
        add("daemon's file", words(self.table("## What is on disk when", "path")));
        let lines = self.table("## Delivery", "line").into_iter();
        add("line of .delivery", lines.map(|row| line_of_delivery(&quoted(&row[0])[0])).collect());
        add("state", words(self.table("## Delivery", "state")));
        add("error", self.errors());
        add("line of .gaps", words(self.table("### Missing messages", "line")));
        add("alert", self.alerts().into_iter().map(|(kind, when)| format!("{kind}, {when}")).collect());
        add("hook", words(self.table("## Hooks", "file")));
        add("variable", words(self.table("## Hooks", "variable")));
        for row in self.table("## Status", "line") {
            let name = quoted(&row[0])[0].split(':').next().unwrap().to_owned();
            // Words of two lines are told one by one: what programs look for.
            let values = quoted(&row[1]).into_iter().filter(|_| ["daemon", "connection"].contains(&name.as_str()));
            add("status", values.map(|value| format!("{name}: {}", until_variable(&value))).collect());
            add("status", vec![name.clone()]);
        }
        found
    }

    /// What `.error` files in the outbox say.
    pub fn errors(&self) -> Vec<String> {
        self.table("## Errors", "what").into_iter().map(|row| quoted(&row[1]).remove(0)).collect()
    }

    /// The kinds of alerts, and the first words of when each comes: one kind may come for several reasons.
    pub fn alerts(&self) -> Vec<(String, String)> {
        let rows = self.table("## Alerts", "kind").into_iter();
        let first_words = |text: &str| text.split(' ').take(4).collect::<Vec<_>>().join(" ");
        rows.map(|row| (quoted(&row[0]).remove(0), first_words(&row[2]))).collect()
    }

    /// The settings that are there.
    pub fn settings(&self) -> Vec<String> {
        self.table("## Settings", "key").into_iter().map(|row| quoted(&row[0]).remove(0)).collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `to: FINGERPRINT failed TIME NAME: REASON` is another line than one without a reason.
fn line_of_delivery(line: &str) -> String {
    let name = line.split(':').next().unwrap();
    if line.contains(" failed ") { format!("{name} … failed") } else { name.to_owned() }
}

/// `connected to HOST:PORT`, without what differs from one to the other.
fn until_variable(value: &str) -> String {
    let fixed = value.split(' ').take_while(|word| !word.starts_with(char::is_uppercase));
    fixed.collect::<Vec<_>>().join(" ")
}

/// A path of the document as a pattern of the shell: what is in capitals differs.
pub fn pattern(path: &str) -> String {
    let is_variable = |part: &str| part.starts_with(char::is_uppercase);
    let mut pattern = String::new();
    let mut rest = path.trim_end_matches('/');
    while !rest.is_empty() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric();
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()).max(1);
        let end = (end..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap();
        let (part, left) = rest.split_at(end);
        pattern.push_str(if is_variable(part) || part == "…" { "*" } else { part });
        rest = left;
    }
    pattern
}
