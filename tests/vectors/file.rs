//! The file of vectors, which remembers what was asked of it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;

/// `tests/vectors/protocol.json`.
pub struct Vectors {
    file: Value,
    read: RefCell<BTreeSet<String>>,
}

/// A part of it.
#[derive(Clone)]
pub struct Part<'a> {
    vectors: &'a Vectors,
    pointer: String,
}

impl Vectors {
    pub fn load() -> Self {
        let file = serde_json::from_str(include_str!("protocol.json")).unwrap();
        Self { file, read: RefCell::default() }
    }

    pub fn part(&self, name: &str) -> Part<'_> {
        Part { vectors: self, pointer: format!("/{name}") }
    }

    /// The values that nobody asked for.
    pub fn unread(&self) -> Vec<String> {
        let mut unread = Vec::new();
        collect(&self.file, String::new(), &mut unread);
        unread.retain(|pointer| !self.read.borrow().contains(pointer));
        unread
    }
}

fn collect(value: &Value, pointer: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| collect(field, format!("{pointer}/{name}"), leaves))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| collect(item, format!("{pointer}/{at}"), leaves));
        }
        _ => leaves.push(pointer),
    }
}

impl<'a> Part<'a> {
    pub fn part(&self, name: &str) -> Self {
        Self { vectors: self.vectors, pointer: format!("{}/{name}", self.pointer) }
    }

    /// The parts of an array or an object.
    pub fn parts(&self) -> Vec<Self> {
        match self.value() {
            Value::Object(fields) => fields.keys().map(|name| self.part(name)).collect(),
            Value::Array(items) => (0..items.len()).map(|at| self.part(&at.to_string())).collect(),
            _ => panic!("{} has no parts", self.pointer),
        }
    }

    pub fn name(&self) -> &str {
        self.pointer.rsplit('/').next().unwrap()
    }

    fn value(&self) -> &'a Value {
        let value = self.vectors.file.pointer(&self.pointer);
        value.unwrap_or_else(|| panic!("the vectors have no {}", self.pointer))
    }

    fn read(&self, name: &str) -> &'a Value {
        let part = self.part(name);
        let value = part.value();
        self.vectors.read.borrow_mut().insert(part.pointer);
        value
    }

    pub fn text(&self, name: &str) -> &'a str {
        self.read(name).as_str().unwrap()
    }

    pub fn number(&self, name: &str) -> u64 {
        self.read(name).as_u64().unwrap()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.text(name).as_bytes();
        if name.ends_with("base64") { BASE64.decode(text).unwrap() } else { HEXLOWER.decode(text).unwrap() }
    }

    pub fn has(&self, name: &str) -> bool {
        self.value().get(name).is_some()
    }

    /// Several of the same length.
    pub fn arrays<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
        let count = self.part(name).value().as_array().unwrap().len();
        (0..count).map(|at| self.part(name).array(&at.to_string())).collect()
    }

    pub fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    /// The value is what this code made.
    #[track_caller]
    pub fn is(&self, name: &str, made: impl AsRef<[u8]>) {
        let expected = self.bytes(name);
        assert_eq!(HEXLOWER.encode(made.as_ref()), HEXLOWER.encode(&expected), "{}/{name}", self.pointer);
    }
}
