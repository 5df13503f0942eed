//! What the command line says: results on standard output, remarks on standard error, and no text of strangers that
//! could steer a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;

use super::PROGRAM;
use crate::app::failure::{Exit, Failure};

/// Standard output. A reader that goes away (`| head`) is no failure: what follows is not written, and nothing is said.
#[derive(Debug)]
pub(super) struct Output {
    closed: bool,
    terminal: bool,
}

impl Output {
    /// This process's own.
    pub(super) fn stdout() -> Self {
        Self { closed: false, terminal: io::stdout().is_terminal() }
    }

    /// Whether a person looks at it, and control characters would do something.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes a path on a line of its own: its exact bytes to a program, its safe form to a terminal.
    pub(super) fn path(&mut self, path: &Path) -> Result<(), Failure> {
        if self.terminal {
            return self.text(&format!("{}\n", shown(path)));
        }
        self.bytes(&[path.as_os_str().as_bytes(), b"\n"].concat())
    }

    /// Writes a value as JSON, indented, with a line's end.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Software, "writing JSON", error, "Please report this."))?;
        self.text(&format!("{text}\n"))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => {
                Err(Failure::io("writing to standard output", &error, "Check where the output is redirected to."))
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Says something on standard error that is no failure.
pub(super) fn note(text: impl fmt::Display) {
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(io::stderr(), "{PROGRAM}: {text}");
}

/// Tells a person at a terminal what is expected of them; a program that feeds us needs no word.
pub(super) fn prompt(text: &str) {
    if io::stdin().is_terminal() {
        note(text);
    }
}

/// `text` on one line, with everything escaped that could steer a terminal or reorder what it shows.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    escape_where(text, is_steering)
}

/// The same for content: tabs stay.
pub(super) fn safe_line(text: &str) -> Cow<'_, str> {
    escape_where(text, |character| character != '\t' && is_steering(character))
}

/// A path for people.
pub(super) fn shown(path: &Path) -> String {
    safe(&path.to_string_lossy()).into_owned()
}

fn escape_where(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) { escaped.extend(character.escape_default()) } else { escaped.push(character) }
    }
    Cow::Owned(escaped)
}

/// Control characters, line breaks of Unicode, and what changes the direction of other characters. Joiners stay: scripts
/// and emoji need them.
fn is_steering(character: char) -> bool {
    let reordering = matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || reordering
}

/// Lines of columns, each as wide as its widest cell; the last is not filled up.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = width(column).unwrap_or(0) - cell.chars().count();
            line.push_str(cell);
            line.push_str(&" ".repeat(fill + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        assert_eq!(safe("a\x1b[2Jb\r\n\u{202e}c"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c");
        assert_eq!(safe_line("a\tb\x07"), "a\tb\\u{7}");
        assert_eq!(safe("schöne Grüße 👩‍💻"), "schöne Grüße 👩‍💻");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ä".into(), "b".into()], vec!["long".into(), String::new()]];
        assert_eq!(table(&rows), "ä     b\nlong\n");
    }
}
