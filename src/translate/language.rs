//! One language: its words, and the forms that they take in a frame or beside another word.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::intents::{Intents, Kind};
use super::pattern::Pattern;
use super::values::Value;

/// Stands for the word in a frame.
const GAP: &str = "{}";

/// A language file, read.
pub(super) struct Language {
    pub(super) name: String,
    decimal: String,
    quote: String,
    percent: String,
    clock: Clock,
    /// Frame, class: what stands around a word.
    frames: Table,
    /// Word, class: the form that agrees.
    pub(super) agree: Table,
    pub(super) parts: BTreeMap<String, Vec<Pattern>>,
    pub(super) say: BTreeMap<String, Vec<Pattern>>,
    /// List, key (its English name): the word.
    pub(super) words: BTreeMap<String, BTreeMap<String, Word>>,
}

type Table = BTreeMap<String, BTreeMap<String, String>>;

/// A word of a list.
pub(super) struct Word {
    /// What articles and other words go by; empty where nothing does.
    class: String,
    base: String,
    /// By frame or class: what does not follow the rule.
    forms: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    hour: String,
    minute: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    decimal: String,
    quote: String,
    percent: String,
    clock: Clock,
    frames: Table,
    agree: Table,
    parts: BTreeMap<String, OneOrMore>,
    say: BTreeMap<String, OneOrMore>,
    words: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Plain(String),
    Forms(BTreeMap<String, String>),
}

impl Language {
    pub(super) fn read(text: &str, intents: &Intents) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut words = BTreeMap::new();
        for (list, entries) in file.words {
            let is_noun = intents.kind(&list) == Some(Kind::Noun);
            let read = |(key, entry)| Word::read(entry, is_noun).map(|word| (key, word));
            words.insert(list, entries.into_iter().map(read).collect::<Result<_, _>>()?);
        }
        Ok(Self {
            name: file.name,
            decimal: file.decimal,
            quote: file.quote,
            percent: file.percent,
            clock: file.clock,
            frames: file.frames.into_iter().map(|(frame, row)| (frame, one_key_each(row))).collect(),
            agree: file.agree.into_iter().map(|(word, row)| (word, one_key_each(row))).collect(),
            parts: patterns(file.parts)?,
            say: patterns(file.say)?,
            words,
        })
    }

    /// What the value of this slot is said as, in this frame.
    pub(super) fn form(&self, slot: &str, value: &Value, frame: Option<&str>) -> Option<String> {
        let class = self.class(slot, value);
        let base = match value {
            Value::Word { list, key } => {
                let word = self.words.get(list)?.get(key)?;
                match frame.and_then(|frame| word.forms.get(frame)) {
                    Some(form) => return Some(form.clone()),
                    None => word.base.clone(),
                }
            }
            Value::Name(name) => match frame {
                Some(_) => name.clone(),
                None => return Some(self.quote.replace(GAP, name)),
            },
            Value::Text(text) => text.clone(),
            Value::Number(number) => self.number(*number),
            Value::Percent(number) => self.percent.replace(GAP, &self.number(*number)),
            Value::Clock { hour, minute } => self.clock(*hour, *minute),
        };
        match frame {
            None => Some(base),
            // A word without a class is the same in every frame.
            Some(_) if class.is_empty() => Some(base),
            Some(frame) => {
                let row = self.frames.get(frame)?;
                // A percentage may have a frame of its own: "all'80%".
                let own = matches!(value, Value::Percent(_)).then(|| row.get(&base)).flatten();
                Some(own.or_else(|| row.get(class))?.replace(GAP, &base))
            }
        }
    }

    /// The form of a value beside a word of this class.
    pub(super) fn agreeing(&self, value: &Value, class: &str) -> Option<String> {
        match value {
            Value::Word { list, key } => {
                let word = self.words.get(list)?.get(key)?;
                Some(word.forms.get(class).unwrap_or(&word.base).clone())
            }
            Value::Name(name) => Some(self.quote.replace(GAP, name)),
            _ => None,
        }
    }

    /// What articles and verbs go by. A name that is in no list has its slot for a class: its gender is not known.
    pub(super) fn class<'a>(&'a self, slot: &'a str, value: &'a Value) -> &'a str {
        match value {
            Value::Word { list, key } => {
                self.words.get(list).and_then(|words| words.get(key)).map_or("", |word| &word.class)
            }
            Value::Number(number) if *number == 1.0 => "one",
            Value::Clock { hour: 1, .. } => "one",
            Value::Number(_) | Value::Clock { .. } => "many",
            Value::Percent(_) => "percent",
            Value::Name(_) | Value::Text(_) => slot,
        }
    }

    fn number(&self, number: f64) -> String {
        number.to_string().replace('.', &self.decimal)
    }

    fn clock(&self, hour: u32, minute: u32) -> String {
        let format = if minute == 0 { &self.clock.hour } else { &self.clock.minute };
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        let half = if hour < 12 { "am" } else { "pm" };
        format
            .replace("{h}", &hour.to_string())
            .replace("{m}", &format!("{minute:02}"))
            .replace("{h12}", &twelve.to_string())
            .replace("{half}", half)
    }
}

impl Word {
    fn read(entry: Entry, is_noun: bool) -> Result<Self, String> {
        let classed = |text: &str| {
            let (class, base) = text.split_once(' ').ok_or_else(|| format!("{text:?}: no class"))?;
            Ok::<_, String>((class.to_owned(), base.to_owned()))
        };
        let mut forms = BTreeMap::new();
        let (class, base) = match entry {
            Entry::Plain(text) if is_noun => classed(&text)?,
            Entry::Plain(text) => (String::new(), text),
            Entry::Forms(mut row) => {
                let noun = row.remove("noun").map(|noun| classed(&noun)).transpose()?;
                forms = one_key_each(row);
                let base = forms.get("base").or_else(|| forms.values().next()).cloned().unwrap_or_default();
                noun.unwrap_or((String::new(), base))
            }
        };
        Ok(Self { class, base, forms })
    }
}

/// `"m f" = "est"` says the same of two classes.
fn one_key_each(row: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let each = |(keys, form): (String, String)| {
        keys.split(' ').map(|key| (key.to_owned(), form.clone())).collect::<Vec<_>>()
    };
    row.into_iter().flat_map(each).collect()
}

fn patterns(table: BTreeMap<String, OneOrMore>) -> Result<BTreeMap<String, Vec<Pattern>>, String> {
    let read = |(name, texts)| {
        let texts = match texts {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        };
        let patterns = texts.iter().map(|text| Pattern::read(text)).collect::<Result<_, _>>()?;
        Ok((name, patterns))
    };
    table.into_iter().map(read).collect()
}
