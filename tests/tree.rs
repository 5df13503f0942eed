//! What must hold for the tree as a whole, whatever it contains: dependencies, unsafe code, sizes, secrets.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item};

/// A file longer than this holds more than one idea.
const LINES_MAX: usize = 500;

/// Packages whose messages hold neither keys nor private text.
const PUBLIC: &[&str] = &["chatterbox.frame", "chatterbox.profile"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// All files below `src/`, relative to the root, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn there_is_one_of_each_curve_crate() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    for name in ["curve25519-dalek", "ed25519-dalek", "x25519-dalek"] {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|package| package["name"].as_str() == Some(name))
            .map(|package| package["version"].as_str().unwrap())
            .collect();
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn unsafe_code_is_in_one_file_only() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("deny"));
    let allowing: Vec<PathBuf> =
        sources().into_iter().filter(|(_, text)| text.contains("unsafe_code")).map(|(path, _)| path).collect();
    assert_eq!(allowing, [Path::new("src/disk/sys.rs")]);
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX}: {long:?}");
}

/// The packages of `proto/`, each with the Rust code that was generated for it.
fn packages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("proto")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let package = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';')).unwrap();
        let generated = Path::new(env!("OUT_DIR")).join(format!("{package}.rs"));
        found.push((package.to_owned(), fs::read_to_string(generated).unwrap()));
    }
    found
}

/// Names of the generated types that can be printed. A message or a oneof derives `Debug` together with its encoding,
/// unless it is marked.
fn printable(items: &[Item]) -> Vec<String> {
    let mut found = Vec::new();
    for item in items {
        let (name, attributes) = match item {
            Item::Struct(item) => (item.ident.to_string(), &item.attrs),
            Item::Enum(item) => (item.ident.to_string(), &item.attrs),
            Item::Mod(item) => {
                found.extend(printable(&item.content.as_ref().unwrap().1));
                continue;
            }
            _ => continue,
        };
        let derives = |name: &str| attributes.iter().any(|attribute| mentions(attribute, "derive", name));
        let marked = attributes.iter().any(|attribute| mentions(attribute, "prost", "skip_debug"));
        if derives("Debug") || (derives("Message") || derives("Oneof")) && !marked {
            found.push(name);
        }
    }
    found
}

/// Whether an attribute is `#[attribute(…, word, …)]`, in which `word` may be the end of a path.
fn mentions(attribute: &Attribute, name: &str, word: &str) -> bool {
    let mut found = false;
    if attribute.path().is_ident(name) {
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|last| last.ident == word);
            Ok(())
        });
    }
    found
}

#[test]
fn generated_messages_that_hold_secrets_have_no_debug() {
    let packages = packages();
    assert!(packages.len() > PUBLIC.len());
    for (package, generated) in packages {
        let printable = printable(&syn::parse_file(&generated).unwrap().items);
        if !PUBLIC.contains(&package.as_str()) {
            assert!(printable.is_empty(), "{package} (see build.rs): {printable:?}");
        }
    }
}

#[test]
fn a_generated_message_with_debug_is_found() {
    let source = "#[derive(Clone, ::prost::Message)] pub struct A {}
        #[derive(Clone, ::prost::Message)] #[prost(skip_debug)] pub struct B {}
        pub mod b { #[derive(::prost::Oneof)] pub enum C {} #[derive(Debug, ::prost::Enumeration)] pub enum D {} }";
    assert_eq!(printable(&syn::parse_file(source).unwrap().items), ["A", "C", "D"]);
}
