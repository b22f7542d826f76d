//! The file as written: every value and every key with its place.
//!
//! The fields are not read by derived serde types: an error that serde raises has a place but no path, and says nothing
//! of the fields that would have been right. [`Field`](super::field::Field) walks this tree and knows both.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{
    Error, MessageFormatter, Spanned, UserMessageFormatter,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

use super::error::{Fault, Position};

/// A value and where it begins; what comes by an alias is where the alias is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Position,
    pub(super) value: Value,
}

/// A value of YAML's core schema (YAML 1.2.2, section 10.3).
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// Keys in the order of the file, a repeated one too.
    Mapping(Vec<(Node, Node)>),
}

impl Value {
    /// Whether this is the given text.
    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }
}

/// Longest text that a message repeats, in characters.
const SHOWN: usize = 64;

impl fmt::Display for Value {
    /// The value as a message repeats it: in one line, and not at any length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) if text.chars().nth(SHOWN).is_none() => write!(f, "{text:?}"),
            Self::Text(text) => {
                let start: String = text.chars().take(SHOWN).collect();
                write!(f, "{start:?}…")
            }
            Self::List(_) => f.write_str("a list"),
            Self::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

/// Parses the text of a file that holds one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    // Room for the largest configuration the maps can hold; what aliases multiply is held by the default limits.
    let budget = serde_yaml::budget! {
        max_events: 4_000_000,
        max_nodes: 2_000_000,
    };
    let options = serde_yaml::options! {
        budget: budget,
        // Found by Field::mapping, which knows the path and the first occurrence.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    // A byte order mark is no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_yaml::from_str_with_options(text, options).map_err(|error| Fault {
        position: error.location().map(Position::from),
        field: String::new(),
        message: format!("not valid YAML: {}", describe(&error)),
    })
}

/// What the parser says, without the place, which goes in front.
fn describe(error: &Error) -> String {
    match error {
        Error::UnknownAnchor { .. } => "the alias has no anchor above it".to_owned(),
        Error::MultipleDocuments { .. } => "a second document begins here, and one is all there may be".to_owned(),
        error => {
            let message = UserMessageFormatter.format_message(error);
            message.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            place: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Mapping(entries))
    }
}
