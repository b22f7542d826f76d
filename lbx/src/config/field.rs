//! A value together with the path that leads to it: what every refusal is made from.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
};

use super::{
    error::{Fault, Faults, Position},
    node::{Node, Value},
};

/// Longest key in bytes that a path shows as it is; longer ones are quoted and cut.
const MAX_PLAIN_KEY: usize = 64;

/// What to do about an empty value that nothing needs.
const FILL_OR_OMIT: &str = "give it a value or leave it out";

/// A value of the file and its path.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    path: String,
    place: Position,
    value: &'a Value,
}

/// What a mapping without fields says.
static EMPTY: Value = Value::Mapping(Vec::new());

impl<'a> Field<'a> {
    /// The whole document.
    pub(super) fn root(node: &'a Node) -> Self {
        Self::new(String::new(), node)
    }

    fn new(path: String, Node { place, value }: &'a Node) -> Self {
        Self {
            path,
            place: *place,
            value,
        }
    }

    /// A field of this one's that is not there, as if it were there and empty.
    pub(super) fn implied(&self, name: &str) -> Self {
        Self {
            path: join(&self.path, name),
            place: self.place,
            value: &EMPTY,
        }
    }

    /// The value as written.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// A refusal of this value.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault {
            position: Some(self.place),
            field: self.path.clone(),
            message: message.into(),
        }
    }

    /// A refusal in the usual words: what was found is not what was expected.
    pub(super) fn is_not(&self, what: impl fmt::Display, expected: impl fmt::Display) -> Fault {
        self.fault(format!("{} is not {what}: {expected}", self.value()))
    }

    /// The items of a list; `expected` says of what, beginning with a verb.
    pub(super) fn items(&self, expected: &str) -> Result<Items<'a>, Fault> {
        let Value::List(items) = self.value() else {
            return Err(self.is_not("a list", expected));
        };
        let item = |(index, node)| Field::new(format!("{}[{index}]", self.path), node);
        Ok(Items(items.iter().enumerate().map(item).collect()))
    }

    /// The items of a list that has room for `max`; `what` is what they are.
    pub(super) fn at_most(&self, max: usize, what: &str, expected: &str) -> Result<Items<'a>, Fault> {
        let items = self.items(expected)?;
        if items.len() > max {
            return Err(self.fault(format!("{} {what}: lbx holds {max} at most", items.len())));
        }
        Ok(items)
    }

    /// Reads a mapping that may have the `known` fields; every other field is a fault, beside those of `read`.
    pub(super) fn mapping<T>(
        &self,
        known: &[&'static str],
        read: impl FnOnce(&Fields<'a>) -> Result<T, Faults>,
    ) -> Result<T, Faults> {
        let Value::Mapping(entries) = self.value() else {
            return Err(self
                .is_not("a mapping", format_args!("use the fields {}", known.join(", ")))
                .into());
        };
        let mut faults = Faults::default();
        let mut fields = Fields {
            path: self.path.clone(),
            place: self.place,
            found: Vec::with_capacity(entries.len()),
            has_unknown: false,
        };
        for (key, node) in entries {
            let own = Field::new(self.path_of_key(&key.value), key);
            let Some(name) = known.iter().find(|name| key.value.is_text(name)) else {
                let what = match key.value {
                    Value::Text(_) => "unknown field".to_owned(),
                    _ => format!("{} is not a field name", key.value),
                };
                faults.add(own.fault(format!("{what}: known here are {}", known.join(", "))));
                fields.has_unknown = true;
                continue;
            };
            if let Some(first) = fields.get(name) {
                faults.add(own.fault(format!("given twice: it is already on line {}", first.place.line)));
                continue;
            }
            fields.found.push((name, Field::new(own.path, node)));
        }
        let value = faults.take(read(&fields));
        match value {
            Some(value) => faults.or(value),
            None => Err(faults),
        }
    }

    /// A mapping that has no fields.
    pub(super) fn no_fields(&self) -> Result<(), Fault> {
        match self.value() {
            Value::Mapping(entries) if entries.is_empty() => Ok(()),
            _ => Err(self.fault("there is no more to say: write {}")),
        }
    }

    /// The names and values of a mapping with names of the operator's own, `max` at most; `what` is what they are.
    pub(super) fn entries<T, E: Into<Faults>>(
        &self,
        max: usize,
        what: &str,
        mut read: impl FnMut(&Self, &Self) -> Result<T, E>,
    ) -> Result<Vec<T>, Faults> {
        let Value::Mapping(entries) = self.value() else {
            return Err(self
                .is_not("a mapping", format_args!("give {what} with their values"))
                .into());
        };
        if entries.len() > max {
            return Err(self
                .fault(format!("{} {what}: lbx holds {max} at most", entries.len()))
                .into());
        }
        let mut faults = Faults::default();
        let read = entries.iter().filter_map(|(key, node)| {
            let path = self.path_of_key(&key.value);
            let value = faults.take(Field::new(path.clone(), node).filled(FILL_OR_OMIT))?;
            faults.take(read(&Field::new(path, key), &value))
        });
        let read = read.collect();
        faults.or(read)
    }

    /// Path and line, for a refusal of another value that is at odds with this one.
    pub(super) fn whereabouts(&self) -> String {
        format!("{} (line {})", self.path, self.place.line)
    }

    /// Path of the field that a key names: quoted if it is no plain word, of the mapping if the key is no name at all.
    fn path_of_key(&self, key: &Value) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match key {
            Value::Text(text) if (1..=MAX_PLAIN_KEY).contains(&text.len()) && text.chars().all(plain) => {
                join(&self.path, text)
            }
            Value::Text(_) => join(&self.path, &key.to_string()),
            _ => self.path.clone(),
        }
    }

    /// This field, unless nothing is written where its value belongs.
    fn filled(self, expected: &str) -> Result<Self, Fault> {
        match self.value() {
            Value::Null => Err(self.fault(format!("is empty: {expected}"))),
            _ => Ok(self),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The items of a list.
#[derive(Debug)]
pub(super) struct Items<'a>(Vec<Field<'a>>);

impl<'a> Items<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads every item.
    ///
    /// # Errors
    /// All that is wrong with any of them, such as an item that is empty.
    pub(super) fn read<T, E: Into<Faults>>(
        self,
        read: impl FnMut(Field<'a>) -> Result<T, E>,
    ) -> Result<Vec<T>, Faults> {
        let (values, faults) = self.read_good(read);
        faults.or(values)
    }

    /// Reads every item: those that are good, and what is wrong with the others.
    pub(super) fn read_good<T, E: Into<Faults>>(
        self,
        mut read: impl FnMut(Field<'a>) -> Result<T, E>,
    ) -> (Vec<T>, Faults) {
        let mut faults = Faults::default();
        let good = self.0.into_iter().filter_map(|item| {
            let item = faults.take(item.filled(FILL_OR_OMIT))?;
            faults.take(read(item))
        });
        (good.collect(), faults)
    }
}

/// The fields of one mapping, every one of them known and there once.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: String,
    place: Position,
    found: Vec<(&'static str, Field<'a>)>,
    /// Whether there are others besides: a field that is missing may be one of them, misspelled.
    has_unknown: bool,
}

impl<'a> Fields<'a> {
    /// A field that may be left out.
    pub(super) fn optional(&self, name: &str) -> Result<Option<Field<'a>>, Fault> {
        self.get(name).map(|field| field.filled(FILL_OR_OMIT)).transpose()
    }

    /// What a field that may be left out says, or else the default.
    pub(super) fn read_or<T, E: Into<Faults>>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&Field<'a>) -> Result<T, E>,
    ) -> Result<T, Faults> {
        match self.optional(name)? {
            Some(field) => read(&field).map_err(Into::into),
            None => Ok(default),
        }
    }

    /// What a field that may be left out says, if it is there.
    pub(super) fn read_optional<T, E: Into<Faults>>(
        &self,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, E>,
    ) -> Result<Option<T>, Faults> {
        self.read_or(name, None, |field| read(field).map(Some))
    }

    /// A field that must be there; `expected` says what for, beginning with a verb.
    pub(super) fn required(&self, name: &str, expected: &str) -> Result<Field<'a>, Faults> {
        match self.get(name) {
            Some(field) => Ok(field.filled(expected)?),
            None if self.has_unknown => Err(Faults::default()),
            None => Err(Fault {
                position: Some(self.place),
                field: join(&self.path, name),
                message: format!("is missing: {expected}"),
            }
            .into()),
        }
    }

    /// The one field of several of which one must be there; `what` is what they say.
    pub(super) fn only_one(&self, of: &[&'static str], what: &str) -> Result<(&'static str, Field<'a>), Faults> {
        let mut found = self.found.iter().filter(|(name, _)| of.contains(name));
        match (found.next(), found.next()) {
            (None, _) if self.has_unknown => Err(Faults::default()),
            (None, _) => Err(self
                .fault(format!("does not say {what}: use one of {}", of.join(", ")))
                .into()),
            (Some((name, field)), None) => Ok((*name, field.clone().filled("write {} if there is no more to say")?)),
            (Some((_, first)), Some((_, second))) => Err(second
                .fault(format!(
                    "says {what}, and so does {}: leave one of them out",
                    first.whereabouts()
                ))
                .into()),
        }
    }

    /// A refusal of the mapping as a whole.
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault {
            position: Some(self.place),
            field: self.path.clone(),
            message: message.into(),
        }
    }

    fn get(&self, name: &str) -> Option<Field<'a>> {
        self.found
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, field)| field.clone())
    }
}

/// What must be there once: remembers where the first was.
#[derive(Debug)]
pub(super) struct Unique<K>(HashMap<K, String>);

impl<K> Default for Unique<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Unique<K> {
    /// Takes the key that `field` gives; `shown` is how a message names it.
    ///
    /// # Errors
    /// The key was given before: says where.
    pub(super) fn insert(&mut self, key: K, shown: impl fmt::Display, field: &Field<'_>) -> Result<(), Fault> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Err(field.fault(format!("{shown} is already {}", first.get()))),
            Entry::Vacant(place) => {
                place.insert(field.whereabouts());
                Ok(())
            }
        }
    }
}
