//! The floors of the library (`src/lib.rs`): a module uses only the floors below it, never a sibling.
//!
//! Every file under `src/` is parsed. What counts is any path that reaches another top-level module: in `use`, in code,
//! in types, and in the arguments of macros, whether it starts with `crate::` or climbs there by `super::`. Tests in a
//! module are held to the same. Links in documentation are no imports.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Macro, Meta, UseTree};

/// From the ground up.
const FLOORS: &[&[&str]] = &[
    &["limits", "clock", "name"],
    &["crypto"],
    &["wire"],
    &["ratchet", "envelope", "handshake"],
    &["disk", "net"],
    &["client", "server"],
    &["app"],
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Finds the paths of one file that go where they must not.
struct Checker {
    /// The module that is read now, from the root.
    module: Vec<String>,
    /// Line, and what is wrong.
    violations: Vec<(usize, String)>,
}

impl Checker {
    fn check(module: &[&str], source: &str) -> Vec<(usize, String)> {
        let file = syn::parse_file(source).unwrap();
        let module = module.iter().map(|&part| part.to_owned()).collect();
        let mut checker = Self { module, violations: Vec::new() };
        checker.visit_file(&file);
        checker.violations.sort();
        checker.violations.dedup();
        checker.violations
    }

    /// Looks at a path as it is written. Nothing but the root itself (`pub(crate)`, `pub(super)`) is no import.
    fn path(&mut self, segments: &[String], at: Span) {
        let Some(target) = self.resolve(segments) else { return };
        let problem = match target {
            // Whoever has the root by a name or by a glob has every module.
            None => "imports the root of the crate".to_owned(),
            Some(target) => match self.judge(target) {
                Some(problem) => problem,
                None => return,
            },
        };
        self.violations.push((at.start().line, format!("`{}` {problem}", segments.join("::"))));
    }

    /// The top-level module that a path leads to; `Some(None)` is the root itself; `None` if it is no path of ours or
    /// stays inside its module.
    fn resolve<'a>(&self, segments: &'a [String]) -> Option<Option<&'a str>> {
        let climbs = segments.iter().take_while(|part| *part == "super" || *part == "self").count();
        let depth = match segments.first().map(String::as_str) {
            Some("crate" | "$crate") => 0,
            Some("super" | "self") => {
                let levels = segments[..climbs].iter().filter(|part| *part == "super").count();
                self.module.len().saturating_sub(levels)
            }
            _ => return None,
        };
        let skipped = climbs.max(1);
        (depth == 0).then(|| segments.get(skipped).map(String::as_str).filter(|part| *part != "*" && *part != "self"))
    }

    fn judge(&self, target: &str) -> Option<String> {
        // The root declares the modules and uses none.
        let own = self.module.first()?;
        if own == target {
            return None;
        }
        let Some(to) = floor(target) else { return Some(format!("leads to `{target}`, which is on no floor")) };
        let from = floor(own)?;
        match from.cmp(&to) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => Some(format!("leads from `{own}` to its sibling on floor {to}")),
            std::cmp::Ordering::Less => Some(format!("leads up from `{own}` on floor {from} to floor {to}")),
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Name(name) => self.path(&with(name.ident.to_string()), name.ident.span()),
            UseTree::Rename(rename) => self.path(&with(rename.ident.to_string()), rename.ident.span()),
            UseTree::Glob(glob) => self.path(&with("*".to_owned()), glob.star_token.spans[0]),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }

    /// What a macro is given need not be code: its paths are found among the tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut position = 0;
        while let Some(token) = tokens.get(position) {
            position += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) if ["crate", "super", "self"].iter().any(|start| first == start) => {
                    let mut segments = vec![first.to_string()];
                    while let [TokenTree::Punct(one), TokenTree::Punct(two), TokenTree::Ident(next), ..] =
                        &tokens[position..]
                        && (one.as_char(), two.as_char()) == (':', ':')
                    {
                        segments.push(next.to_string());
                        position += 3;
                    }
                    if segments.len() > 1 {
                        self.path(&segments, first.span());
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Checker {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // One segment alone is a visibility, or the value `self`.
        if path.segments.len() > 1 {
            let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&segments, path.segments[0].ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `client/send.rs` is `client::send`, `client/mod.rs` is `client`, `lib.rs` the root.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

#[test]
fn every_module_uses_only_the_floors_below_it() {
    let root = source_directory();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 50, "{files:?}");
    let mut report = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&root).unwrap();
        // The programs are crates of their own, above all floors.
        if relative.starts_with("bin") {
            continue;
        }
        let module = module_of(relative);
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        for (line, problem) in Checker::check(&module, &fs::read_to_string(file).unwrap()) {
            report.push(format!("src/{}:{line}: {problem}", relative.display()));
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

#[test]
fn every_top_level_module_is_on_a_floor() {
    let root = syn::parse_file(&fs::read_to_string(source_directory().join("lib.rs")).unwrap()).unwrap();
    let declared: BTreeSet<String> = root
        .items
        .iter()
        .filter_map(|item| if let Item::Mod(item) = item { Some(item.ident.to_string()) } else { None })
        .collect();
    let listed: BTreeSet<String> = FLOORS.iter().copied().flatten().map(|&module| module.to_owned()).collect();
    assert_eq!(declared, listed);
    assert_eq!(root.items.len(), declared.len(), "the root declares modules and nothing else");
}

#[test]
fn the_documentation_shows_the_same_floors() {
    let text = fs::read_to_string(source_directory().join("lib.rs")).unwrap();
    let shown: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "))
        .filter(|(floor, _)| floor.parse::<usize>().is_ok())
        .map(|(_, rest)| rest.split('`').skip(1).step_by(2).collect())
        .collect();
    assert_eq!(shown, FLOORS);
}

#[test]
fn the_architecture_says_what_each_module_of_the_client_owns() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let (_, table) = text.split_once("| module | owns |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let named: BTreeSet<&str> =
        rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2)).collect();
    let file = syn::parse_file(&fs::read_to_string(source_directory().join("client/mod.rs")).unwrap()).unwrap();
    let is_for_tests = |module: &ItemMod| {
        let is_of_tests = |meta: &Meta| matches!(meta, Meta::List(list) if list.tokens.to_string().contains("test"));
        module.attrs.iter().any(|attribute| is_of_tests(&attribute.meta))
    };
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) if !is_for_tests(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let modules: BTreeSet<String> = modules.collect();
    assert_eq!(named, modules.iter().map(String::as_str).collect());
}

/// Lines with a violation.
fn lines(module: &[&str], source: &str) -> Vec<usize> {
    Checker::check(module, source).into_iter().map(|(line, _)| line).collect()
}

#[test]
fn an_import_from_below_is_allowed() {
    let source =
        "use std::fs;\nuse crate::{limits::X, crypto::{dh, sign::*}};\nuse super::wire::Y;\nuse self::inner::Z;
        pub(crate) struct S(pub(super) crate::clock::Timestamp);";
    assert_eq!(lines(&["client"], source), []);
}

#[test]
fn an_import_from_above_is_found() {
    assert_eq!(lines(&["wire", "frame"], "\nuse crate::client::daemon;"), [2]);
    assert_eq!(lines(&["wire"], "pub use crate::app as programs;"), [1]);
    let found = Checker::check(&["crypto"], "use crate::wire::X;");
    assert_eq!(found, [(1, "`crate::wire::X` leads up from `crypto` on floor 1 to floor 2".to_owned())]);
}

#[test]
fn an_import_of_a_sibling_is_found() {
    let found = Checker::check(&["disk", "lock"], "use crate::net::dialer::Dialer;");
    assert_eq!(found, [(1, "`crate::net::dialer::Dialer` leads from `disk` to its sibling on floor 4".to_owned())]);
}

#[test]
fn one_violation_in_a_nested_group_is_found() {
    let source = "use crate::{\n    limits::A,\n    crypto::{dh, sign},\n    server::{store::{B, C}},\n};";
    assert_eq!(lines(&["client", "send"], source), [4, 4]);
    assert_eq!(lines(&["ratchet"], "use crate::{envelope::*};"), [1]);
}

#[test]
fn super_counts_only_where_it_leaves_the_module() {
    assert_eq!(lines(&["client", "send"], "use super::server::X;"), [], "client::server, not server");
    assert_eq!(lines(&["client", "send"], "use super::super::server::X;"), [1]);
    assert_eq!(lines(&["client"], "use super::server::X;"), [1]);
    assert_eq!(lines(&["client"], "mod tests {\n use super::server::X;\n use super::super::server::X;\n}"), [3]);
    assert_eq!(lines(&["client"], "mod tests { use super::*; }"), []);
}

#[test]
fn the_whole_root_is_never_imported() {
    for source in ["use crate::*;", "use super::*;", "use crate as everything;", "use crate::{self as everything};"] {
        assert_eq!(lines(&["app"], source), [1], "{source}");
    }
}

#[test]
fn paths_in_code_and_in_macros_count_too() {
    let source = "fn f(x: &crate::net::X) -> u8 {\n    crate::disk::y();\n    format!(\"{}\", [crate::app::z()])\n}\n
        #[cfg(test)]\nmod tests {\n    type T = Vec<crate::server::S>;\n}";
    assert_eq!(lines(&["handshake"], source), [1, 2, 3, 8]);
    assert_eq!(lines(&["wire"], "macro_rules! m { () => { $crate::client::x() }; }"), [1]);
}

#[test]
fn a_module_on_no_floor_is_found() {
    assert_eq!(lines(&["app"], "use crate::helpers::x;"), [1]);
}
