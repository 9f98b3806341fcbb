//! Says an intent and its slots in another language. It is a phrase translator: it knows the commands of a home, each with
//! the slots that it can take, and nothing else. No sentence is made of words that it was not given; what is outside its
//! table is refused, and so is whatever it could only say by leaving a slot out.
//!
//! The table lies in `phrases/` and is compiled in:
//!
//! - `intents.toml`: which command an intent of a bundle is, by its slots and words; which slots a command takes; what a
//!   slot holds. The same for all languages.
//! - `de.toml` and its like: how one language says each command, its lists of words, its articles and agreement. Their
//!   notation stands at the head of `en.toml`.
//!
//! A sentence goes through the modules in this order:
//!
//! - `intents`: the intent to a command, its slots to those of the command.
//! - `values`: the words of a slot to a value: a word of the lists, a number, a time; names stay as they were said.
//! - `pattern`: the command's pattern in the language, filled with the values. `language`: the forms of a value in it.

mod intents;
mod language;
mod pattern;
mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use intentd_core::{Slot, Understanding};

use intents::Intents;
use language::Language;
use pattern::Filling;

/// The languages, by the primary subtag of their BCP 47 tag.
const LANGUAGES: [(&str, &str); 6] = [
    ("de", include_str!("../../phrases/de.toml")),
    ("en", include_str!("../../phrases/en.toml")),
    ("es", include_str!("../../phrases/es.toml")),
    ("fr", include_str!("../../phrases/fr.toml")),
    ("it", include_str!("../../phrases/it.toml")),
    ("nl", include_str!("../../phrases/nl.toml")),
];

const INTENTS: &str = include_str!("../../phrases/intents.toml");

static PHRASES: LazyLock<Phrases> = LazyLock::new(|| Phrases::read().expect("a test reads the whole table"));

/// The table.
pub struct Phrases {
    intents: Intents,
    languages: BTreeMap<&'static str, Language>,
}

/// What was understood, to be said again.
#[derive(Clone, Copy, Debug)]
pub struct Understood<'a> {
    /// What was said. An intent may cover several commands (`HassTurnOn` switches on, opens and locks), and an amount
    /// may be a goal or a step: its words tell which.
    pub text: &'a str,
    /// Label of the bundle.
    pub intent: &'a str,
    /// Values found in the text.
    pub slots: &'a [Slot],
}

impl<'a> Understood<'a> {
    /// What the engine made of this text.
    ///
    /// # Errors
    /// [`Untranslatable::NotRecognized`].
    pub fn new(text: &'a str, understanding: &'a Understanding) -> Result<Self, Untranslatable> {
        let intent = understanding.intent.as_ref().ok_or(Untranslatable::NotRecognized)?;
        Ok(Self { text, intent: &intent.name, slots: &understanding.slots })
    }
}

/// Why something can't be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// The table has no such language.
    #[error("{asked:?} is not a language of the phrase table; it has {known}")]
    Language {
        /// As it was asked for.
        asked: String,
        /// Those that it has.
        known: String,
    },
    /// Nobody knows what was meant.
    #[error("the utterance was not recognized, so there is nothing to say")]
    NotRecognized,
    /// The table has no such intent.
    #[error("{intent} is outside the phrase table. This translates phrases of home control only: {known}")]
    Intent {
        /// The label.
        intent: String,
        /// Those that it has.
        known: String,
    },
    /// The table has the intent, but not with these slots.
    #[error("the phrase table has {intent}, but not {why}")]
    Slots {
        /// The label.
        intent: String,
        /// What stands in the way.
        why: String,
    },
}

impl Phrases {
    /// The one table, read on first use.
    pub fn get() -> &'static Self {
        &PHRASES
    }

    fn read() -> Result<Self, String> {
        let intents = Intents::read(INTENTS).map_err(|error| format!("intents.toml: {error}"))?;
        let mut languages = BTreeMap::new();
        for (tag, text) in LANGUAGES {
            let language = Language::read(text, &intents).map_err(|error| format!("{tag}.toml: {error}"))?;
            languages.insert(tag, language);
        }
        Ok(Self { intents, languages })
    }

    /// The languages of the table.
    pub fn languages(&self) -> impl Iterator<Item = &'static str> {
        self.languages.keys().copied()
    }

    /// The language of a BCP 47 tag, as the table names it: `de` for `de-AT`.
    ///
    /// # Errors
    /// [`Untranslatable::Language`].
    pub fn language(&self, tag: &str) -> Result<&'static str, Untranslatable> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        self.languages().find(|known| *known == primary).ok_or_else(|| Untranslatable::Language {
            asked: tag.to_owned(),
            known: self.languages().collect::<Vec<_>>().join(", "),
        })
    }

    /// Says it in the language of this BCP 47 tag.
    ///
    /// # Errors
    /// What is outside the table.
    pub fn say(&self, understood: &Understood<'_>, language: &str) -> Result<String, Untranslatable> {
        let language = &self.languages[self.language(language)?];
        let command = self.intents.command(understood, &self.languages["en"])?;
        let filling = Filling { language, slots: &command.slots };
        filling.sentence(&command.name).ok_or_else(|| Untranslatable::Slots {
            intent: understood.intent.to_owned(),
            why: format!("in {}", language.name),
        })
    }
}

#[cfg(test)]
mod tests;
