//! From an intent of a bundle to a command: which one it is, and which of its slots hold what. The table is
//! `phrases/intents.toml`; its notation stands at its head.

use std::collections::{BTreeMap, BTreeSet};

use intentd_core::Slot;
use serde::Deserialize;

use super::language::Language;
use super::values::{Reader, Value};
use super::{Understood, Untranslatable};

/// `phrases/intents.toml`, read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intents {
    kinds: BTreeMap<Kind, Vec<String>>,
    labels: BTreeMap<String, String>,
    groups: BTreeMap<String, Vec<String>>,
    sorts: BTreeMap<String, Vec<String>>,
    aliases: BTreeMap<String, BTreeMap<String, String>>,
    /// Command: the slots that it can be said with.
    pub(super) commands: BTreeMap<String, Vec<String>>,
    pub(super) intents: BTreeMap<String, Intent>,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A noun of the list of its name, else a name.
    Noun,
    /// A word of the list of its name, else a name.
    Word,
    /// A word of the list of its name, and nothing else.
    Closed,
    /// Words that stay as they were said.
    Text,
    /// A name of a person or place: as it was said, with capitals.
    Proper,
    Number,
    Percent,
    /// A goal ("to 40 percent") or a step ("by 10").
    Change,
    /// A time of the clock, or how long.
    Time,
    /// Kelvin, else a colour.
    Light,
}

/// An intent of a bundle.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    /// Slots whose labels mean something else here.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Label: values that say no more than the intent does.
    #[serde(default)]
    idle: BTreeMap<String, Vec<String>>,
    /// The commands that it may be; the first that fits.
    pub(super) cases: Vec<Case>,
}

/// When an intent is which command.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) say: String,
    /// One of these words was said.
    #[serde(default)]
    words: Vec<String>,
    /// None of these was.
    #[serde(default)]
    without: Vec<String>,
    /// The device is of this sort.
    sort: Option<String>,
    /// These slots are there.
    #[serde(default)]
    has: Vec<String>,
    /// Label: it has one of these values, and the command says it.
    #[serde(default)]
    value: BTreeMap<String, Vec<String>>,
    /// What is meant where a slot is not there.
    #[serde(default)]
    default: BTreeMap<String, String>,
}

/// What to say, whatever the language.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) slots: BTreeMap<String, Value>,
}

impl Intents {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn kind(&self, slot: &str) -> Option<Kind> {
        self.kinds.iter().find(|(_, slots)| slots.iter().any(|name| name == slot)).map(|(kind, _)| *kind)
    }

    /// The list's key for what may be another word for it.
    pub(super) fn alias<'a>(&'a self, list: &str, word: &'a str) -> &'a str {
        self.aliases.get(list).and_then(|aliases| aliases.get(word)).map_or(word, String::as_str)
    }

    /// The command that was meant. `english` has the lists by which its words are known.
    pub(super) fn command(
        &self,
        understood: &Understood<'_>,
        english: &Language,
    ) -> Result<Command, Untranslatable> {
        let Some(intent) = self.intents.get(understood.intent) else {
            return Err(Untranslatable::Intent {
                intent: understood.intent.to_owned(),
                known: self.intents.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            });
        };
        let refuse = |why| Untranslatable::Slots { intent: understood.intent.to_owned(), why };
        let said: BTreeSet<String> = words(understood.text).collect();
        for case in intent.cases.iter().filter(|case| case.is_said(&said, understood.slots)) {
            let slots = self.slots(intent, case, understood, english).map_err(refuse)?;
            if !self.fits(case, &slots) {
                continue;
            }
            if !self.forms(&case.say).contains(&slots.keys().map(String::as_str).collect()) {
                continue;
            }
            return Ok(Command { name: case.say.clone(), slots });
        }
        let labels: BTreeSet<&str> = understood.slots.iter().map(|slot| slot.name.as_str()).collect();
        Err(refuse(match labels.into_iter().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "without slots, said like this".to_owned(),
            labels => format!("with these slots, said like this: {labels}"),
        }))
    }

    fn slots(
        &self,
        intent: &Intent,
        case: &Case,
        understood: &Understood<'_>,
        english: &Language,
    ) -> Result<BTreeMap<String, Value>, String> {
        let mut reader = Reader::new(self, english, understood.text);
        for slot in understood.slots {
            let is_said = |values: &BTreeMap<String, Vec<String>>| has_value(values, slot);
            if is_said(&intent.idle) || is_said(&case.value) {
                continue;
            }
            let name = intent.labels.get(&slot.name).or_else(|| self.labels.get(&slot.name));
            let name = name.ok_or_else(|| format!("the slot {}", slot.name))?;
            reader.read(name, slot)?;
        }
        let mut slots = reader.finish();
        for (slot, key) in &case.default {
            let default = || Value::Word { list: slot.clone(), key: key.clone() };
            slots.entry(slot.clone()).or_insert_with(default);
        }
        Ok(slots)
    }

    fn fits(&self, case: &Case, slots: &BTreeMap<String, Value>) -> bool {
        let is_of = |sort: &String| {
            let device = slots.get("device").and_then(Value::words);
            let members = self.sorts.get(sort).map(Vec::as_slice).unwrap_or_default();
            device.is_some_and(|device| members.iter().any(|member| ends_with(device, member)))
        };
        case.sort.as_ref().is_none_or(is_of) && case.has.iter().all(|slot| slots.contains_key(slot))
    }

    /// Every set of slots that a command can be said with.
    pub(super) fn forms(&self, command: &str) -> Vec<BTreeSet<&str>> {
        let forms = self.commands.get(command).map(Vec::as_slice).unwrap_or_default();
        forms.iter().flat_map(|form| self.expand(form)).collect()
    }

    /// `device place? when?`: a device, maybe a place, maybe any of the slots of the group `when`.
    fn expand<'a>(&'a self, form: &'a str) -> Vec<BTreeSet<&'a str>> {
        let mut sets = vec![BTreeSet::new()];
        for word in form.split_whitespace() {
            let (name, may_be_absent) = word.strip_suffix('?').map_or((word, false), |name| (name, true));
            let members: Vec<&str> = match self.groups.get(name) {
                Some(members) => members.iter().map(String::as_str).collect(),
                None => vec![name],
            };
            let choices = subsets(&members).filter(|set| may_be_absent || !set.is_empty());
            let choices: Vec<BTreeSet<&str>> = choices.collect();
            sets = sets
                .iter()
                .flat_map(|set| choices.iter().map(move |choice| set.union(choice).copied().collect()))
                .collect();
        }
        sets
    }
}

impl Case {
    fn is_said(&self, said: &BTreeSet<String>, slots: &[Slot]) -> bool {
        (self.words.is_empty() || self.words.iter().any(|word| said.contains(word)))
            && !self.without.iter().any(|word| said.contains(word))
            && self
                .value
                .keys()
                .all(|label| slots.iter().any(|slot| slot.name == *label && has_value(&self.value, slot)))
    }
}

fn has_value(values: &BTreeMap<String, Vec<String>>, slot: &Slot) -> bool {
    let said = slot.raw_value.to_lowercase();
    values.get(&slot.name).is_some_and(|values| values.contains(&said))
}

fn ends_with(name: &str, noun: &str) -> bool {
    name.strip_suffix(noun).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
}

fn subsets<'a>(members: &[&'a str]) -> impl Iterator<Item = BTreeSet<&'a str>> {
    (0..1_u32 << members.len()).map(|bits| {
        let chosen = members.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        chosen.map(|(_, member)| *member).collect()
    })
}

#[cfg(test)]
impl Intents {
    /// What the table names and has nowhere, by the place that names it.
    pub(super) fn dangling(
        &self,
        lists: &BTreeMap<String, BTreeMap<String, super::language::Word>>,
    ) -> Vec<String> {
        let is_word = |list: &str, key: &str| lists.get(list).is_some_and(|words| words.contains_key(key));
        let cases = || self.intents.values().flat_map(|intent| &intent.cases);
        let labels = self.intents.values().map(|intent| &intent.labels).chain([&self.labels]);
        let slots = labels.flat_map(BTreeMap::values).chain(self.groups.values().flatten());
        let slots = slots.chain(cases().flat_map(|case| &case.has));
        let words =
            self.aliases.iter().flat_map(|(list, row)| row.values().map(move |key| (list.as_str(), key)));
        let words = words.chain(self.sorts.values().flatten().map(|key| ("device", key)));
        let words =
            words.chain(cases().flat_map(|case| &case.default).map(|(list, key)| (list.as_str(), key)));
        let sorts = cases().filter_map(|case| case.sort.as_ref());
        let no_kind = slots.filter(|slot| self.kind(slot).is_none()).map(|slot| format!("slot {slot}"));
        let no_word =
            words.filter(|(list, key)| !is_word(list, key)).map(|(list, key)| format!("{list} {key}"));
        let no_sort = sorts.filter(|sort| !self.sorts.contains_key(*sort)).map(|sort| format!("sort {sort}"));
        no_kind.chain(no_word).chain(no_sort).collect()
    }
}

/// Lower-case words without punctuation.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.into_iter()
}
