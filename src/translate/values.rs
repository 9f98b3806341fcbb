//! From the words of a slot to a value that can be said in any language: a word of the lists, a number, a time. What is
//! none of these is a name, or text, and stays as it was said.

use std::collections::BTreeMap;

use intentd_core::{Slot, SlotValue};
use intentd_engine::number;

use super::intents::{Intents, Kind, words};
use super::language::Language;

/// What a slot says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A word of a list, by its key.
    Word {
        list: String,
        key: String,
    },
    /// Where a word was asked for, one that no list has.
    Name(String),
    /// Words that nobody translates.
    Text(String),
    Number(f64),
    Percent(f64),
    Clock {
        hour: u32,
        minute: u32,
    },
}

impl Value {
    /// The words of a noun or a name.
    pub(super) fn words(&self) -> Option<&str> {
        match self {
            Self::Word { key, .. } => Some(key),
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// Words before a noun that a list does not have.
const DETERMINERS: [&str; 13] =
    ["all", "any", "every", "some", "of", "the", "a", "an", "my", "our", "your", "this", "that"];

/// Words around an amount: they make it a goal.
const GOAL: [&str; 5] = ["to", "at", "on", "as", "into"];

/// Words around a time.
const AROUND_TIME: [&str; 11] =
    ["in", "for", "at", "after", "next", "the", "another", "from", "now", "about", "only"];

/// Parts of a day whose hours lie after noon.
const AFTER_NOON: [&str; 4] = ["afternoon", "evening", "tonight", "this afternoon"];

/// Reads the slots of one utterance.
pub(super) struct Reader<'a> {
    intents: &'a Intents,
    english: &'a Language,
    text: &'a str,
    slots: BTreeMap<String, Value>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(intents: &'a Intents, english: &'a Language, text: &'a str) -> Self {
        Self { intents, english, text, slots: BTreeMap::new() }
    }

    /// The values. A device whose name tells its place has told it, and "eight in the evening" is not eight in the morning.
    pub(super) fn finish(mut self) -> BTreeMap<String, Value> {
        if let (Some(Value::Name(name)), None) = (self.slots.get("device"), self.slots.get("place")) {
            let name = name.to_lowercase();
            let cuts = name.match_indices(' ').map(|(at, _)| name.split_at(at));
            let mut known = cuts.filter_map(|(place, device)| {
                Some((self.known("place", place)?, self.known("device", device.trim_start())?))
            });
            if let Some((place, device)) = known.next() {
                self.slots.insert("place".to_owned(), place);
                self.slots.insert("device".to_owned(), device);
            }
        }
        if let Some(part) = self.slots.get("part").and_then(Value::words) {
            let after_noon = AFTER_NOON.contains(&part);
            if let Some(Value::Clock { hour: hour @ 1..12, .. }) = self.slots.get_mut("time")
                && after_noon
            {
                *hour += 12;
            }
        }
        self.slots
    }

    /// Reads a slot, or says what is the matter with it.
    pub(super) fn read(&mut self, name: &str, slot: &Slot) -> Result<(), String> {
        let raw = slot.raw_value.trim();
        let unreadable = || format!("{raw:?} as {}", slot.name);
        let named = || Value::Name(raw.to_owned());
        match self.intents.kind(name).ok_or_else(|| format!("the slot {}", slot.name))? {
            Kind::Noun | Kind::Word => {
                let value = self.known(name, raw).or_else(|| time_of_day(slot)).unwrap_or_else(named);
                let name = if matches!(value, Value::Clock { .. }) { "time" } else { name };
                self.put(name, value)
            }
            Kind::Closed => self.put(name, self.known(name, raw).ok_or_else(unreadable)?),
            Kind::Text => self.put(name, Value::Text(raw.to_owned())),
            Kind::Proper => self.put(name, Value::Text(with_capitals(raw))),
            Kind::Number => self.put(name, Value::Number(figure(slot).ok_or_else(unreadable)?)),
            Kind::Percent => self.put(name, Value::Percent(share(slot).ok_or_else(unreadable)?)),
            Kind::Change => {
                let (name, value) = self.change(slot).ok_or_else(unreadable)?;
                self.put(name, value)
            }
            Kind::Light => match figure(slot) {
                Some(kelvin) => self.put("kelvin", Value::Number(kelvin)),
                None => self.put("color", self.known("color", raw).unwrap_or_else(named)),
            },
            Kind::Time => match duration(raw) {
                Some(parts) => parts.into_iter().try_for_each(|(unit, value)| self.put(unit, value)),
                None => {
                    let time = time_of_day(slot).or_else(|| full_hour(slot)).map(|time| ("time", time));
                    // Some say a day, or a part of it, for a time.
                    let known = |list: &&'static str| Some((*list, self.known(list, raw)?));
                    let read = time.or_else(|| ["time", "date", "part"].iter().find_map(known));
                    let (name, value) = read.unwrap_or_else(|| ("time", named()));
                    self.put(name, value)
                }
            },
        }
    }

    fn put(&mut self, name: &str, value: Value) -> Result<(), String> {
        match self.slots.insert(name.to_owned(), value.clone()) {
            Some(other) if other != value => Err(format!("with two values for {name}")),
            _ => Ok(()),
        }
    }

    /// The word of a list, whatever stands before it.
    fn known(&self, list: &str, text: &str) -> Option<Value> {
        let text = text.to_lowercase().replace(['-', '_'], " ");
        let mut words: Vec<&str> = text.split_whitespace().collect();
        loop {
            let word = words.join(" ");
            let key = self.intents.alias(list, word.strip_suffix("'s").unwrap_or(&word));
            if self.english.words.get(list)?.contains_key(key) {
                return Some(Value::Word { list: list.to_owned(), key: key.to_owned() });
            }
            if !words.first().is_some_and(|first| DETERMINERS.contains(first)) {
                return None;
            }
            words.remove(0);
        }
    }

    /// A goal, or a step: the word inside or before the slot tells; without one it is a step.
    fn change(&self, slot: &Slot) -> Option<(&'static str, Value)> {
        let before = self.text.get(..slot.bytes.start as usize).unwrap_or_default();
        let after = self.text.get(slot.bytes.end as usize..).unwrap_or_default();
        let inside: Vec<String> = words(&slot.raw_value).collect();
        let is_goal = |word: &String| GOAL.contains(&word.as_str());
        let goal = inside.first().is_some_and(is_goal) || words(before).last().as_ref().is_some_and(is_goal);
        let marked = slot.raw_value.contains('%') || after.trim_start().starts_with('%');
        let percent =
            marked || inside.iter().cloned().chain(words(after).next()).any(|w| w.starts_with("percent"));
        let bare: Vec<&str> =
            inside.iter().map(String::as_str).filter(|word| !GOAL.contains(word) && *word != "by").collect();
        let bare = bare.join(" ");
        let value = match share_in_words(&bare) {
            Some(share) => Value::Percent(share),
            None if percent => Value::Percent(number(&bare)?),
            None => Value::Number(number(&bare)?),
        };
        // "Maximum" is no step, whatever stands before it.
        let goal = goal || share_in_words(&bare).is_some_and(|share| share != 50.0);
        Some((if goal { "amount" } else { "by" }, value))
    }
}

fn figure(slot: &Slot) -> Option<f64> {
    match slot.value {
        Some(SlotValue::Number(number)) => Some(number),
        _ => number(slot.raw_value.trim_end_matches(['%', '°', ' '])),
    }
}

/// A share that can only be a goal: "50", "to fifty percent", "half".
fn share(slot: &Slot) -> Option<f64> {
    let said = slot.raw_value.to_lowercase();
    let bare = GOAL.iter().find_map(|word| said.strip_prefix(word)?.strip_prefix(' ')).unwrap_or(&said);
    figure(slot).or_else(|| number(bare)).or_else(|| share_in_words(bare))
}

fn share_in_words(words: &str) -> Option<f64> {
    match words {
        "max" | "maximum" | "full" | "highest" | "the max" | "the maximum" | "loudest" => Some(100.0),
        "half" | "half way" | "halfway" => Some(50.0),
        "min" | "minimum" | "lowest" | "the minimum" => Some(1.0),
        _ => None,
    }
}

fn time_of_day(slot: &Slot) -> Option<Value> {
    let Some(SlotValue::Text(time)) = &slot.value else { return None };
    let mut parts = time.split(':').map(|part| part.parse::<u32>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    Some(Value::Clock { hour, minute })
}

/// "seven", where a time is meant.
fn full_hour(slot: &Slot) -> Option<Value> {
    let hour = figure(slot).filter(|hour| hour.fract() == 0.0 && (1.0..24.0).contains(hour))?;
    Some(Value::Clock { hour: hour as u32, minute: 0 })
}

/// "two hours and five minutes": each unit with its number.
fn duration(text: &str) -> Option<Vec<(&'static str, Value)>> {
    let said: Vec<String> = words(text).filter(|word| !AROUND_TIME.contains(&word.as_str())).collect();
    if said == ["half", "an", "hour"] {
        return Some(vec![("minutes", Value::Number(30.0))]);
    }
    let mut parts = Vec::new();
    let mut amount: Vec<&str> = Vec::new();
    for word in &said {
        let unit = match word.as_str() {
            "hour" | "hours" => "hours",
            "minute" | "minutes" | "min" => "minutes",
            "second" | "seconds" => "seconds",
            "and" if amount.is_empty() => continue,
            other => {
                amount.push(other);
                continue;
            }
        };
        let value = match amount.join(" ").as_str() {
            "" | "a" | "an" => 1.0,
            amount => number(amount)?,
        };
        parts.push((unit, Value::Number(value)));
        amount.clear();
    }
    (amount.is_empty() && !parts.is_empty()).then_some(parts)
}

/// "new york" to "New York"; what has capitals keeps its own.
fn with_capitals(text: &str) -> String {
    if text.chars().any(char::is_uppercase) {
        return text.to_owned();
    }
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    };
    text.split(' ').map(capital).collect::<Vec<_>>().join(" ")
}
