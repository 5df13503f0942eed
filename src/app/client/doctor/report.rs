//! The findings as text and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::checkup::{Checkup, Daemon};
use super::findings::{Finding, Severity};
use crate::app::client::output;

/// What a running daemon keeps from being looked at.
const LEFT_OUT: &[&str] = &["journal", "tmp/chatterboxd"];

/// One finding a block, a summary at the end.
pub(super) fn text(checkup: &Checkup<'_>) -> String {
    let mut text = String::new();
    for group in checkup.findings.groups() {
        for finding in &group.listed {
            block(&mut text, checkup, finding);
        }
        if let Some(last) = group.listed.last().filter(|_| group.more() > 0) {
            let _ = writeln!(text, "{}: and {} more like this", word(last), group.more());
        }
    }
    let _ = writeln!(text, "{}", summary(checkup));
    text
}

fn word(finding: &Finding) -> &'static str {
    if finding.repaired { "mended" } else { finding.severity.word() }
}

fn block(text: &mut String, checkup: &Checkup<'_>, finding: &Finding) {
    let path = match finding.path == Path::new("") {
        true => output::shown(checkup.root.path()),
        false => output::shown(&finding.path),
    };
    let _ = writeln!(text, "{}: {path}: {}", word(finding), output::safe(&finding.problem));
    if !finding.remedy.is_empty() {
        let _ = writeln!(text, "  {}", output::safe(&finding.remedy));
    }
}

fn summary(checkup: &Checkup<'_>) -> String {
    let findings = &checkup.findings;
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let severities = [Severity::Error, Severity::Warning, Severity::Note];
    let mut counts: Vec<String> =
        severities.iter().filter_map(|severity| counted(findings.count(*severity), severity.word())).collect();
    if findings.repaired() > 0 {
        counts.push(format!("{} mended", findings.repaired()));
    }
    if counts.is_empty() {
        counts.push("no faults found".to_owned());
    }
    let mut line = format!("{}: {}", output::shown(checkup.root.path()), counts.join(", "));
    let left_out = LEFT_OUT.join("/ and ");
    match checkup.daemon {
        Daemon::Stopped => {}
        Daemon::Running(_) => {
            let _ = write!(line, "; {left_out}/ left out, since chatterboxd runs");
        }
        Daemon::Unknown => {
            let _ = write!(line, "; {left_out}/ left out, since chatterboxd may be running");
        }
    }
    line
}

#[derive(Debug, Serialize)]
pub(super) struct Json {
    daemon: &'static str,
    errors: usize,
    warnings: usize,
    notes: usize,
    repaired: usize,
    findings: Vec<JsonFinding>,
    more: Vec<More>,
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct JsonFinding {
    severity: &'static str,
    kind: &'static str,
    path: String,
    problem: String,
    remedy: String,
    repaired: bool,
}

#[derive(Debug, Serialize)]
struct More {
    severity: &'static str,
    kind: &'static str,
    repaired: bool,
    count: usize,
}

impl Json {
    pub(super) fn new(checkup: &Checkup<'_>) -> Self {
        let findings = &checkup.findings;
        // Joining nothing would end the root's path with a slash.
        let absolute = |path: &Path| match path == Path::new("") {
            true => checkup.root.path().to_string_lossy().into_owned(),
            false => checkup.root.join(path).to_string_lossy().into_owned(),
        };
        let finding = |finding: &Finding| JsonFinding {
            severity: finding.severity.word(),
            kind: finding.kind,
            path: absolute(&finding.path),
            problem: finding.problem.clone(),
            remedy: finding.remedy.clone(),
            repaired: finding.repaired,
        };
        let groups = findings.groups();
        let unlisted = groups.iter().filter(|group| group.more() > 0);
        let more = unlisted.filter_map(|group| {
            let Finding { severity, kind, repaired, .. } = group.first()?;
            Some(More { severity: severity.word(), kind, repaired: *repaired, count: group.more() })
        });
        let left_out: &[&str] = if checkup.is_busy() { LEFT_OUT } else { &[] };
        Self {
            daemon: match checkup.daemon {
                Daemon::Stopped => "not running",
                Daemon::Running(_) => "running",
                Daemon::Unknown => "unknown",
            },
            errors: findings.count(Severity::Error),
            warnings: findings.count(Severity::Warning),
            notes: findings.count(Severity::Note),
            repaired: findings.repaired(),
            more: more.collect(),
            findings: groups.iter().flat_map(|group| &group.listed).map(finding).collect(),
            left_out: left_out.iter().map(|path| absolute(Path::new(path))).collect(),
        }
    }
}
