//! `labels.json`: names of what the heads tell apart, and how the encoder's tokens are marked.

use std::collections::HashSet;

use intentd_core::Task;
use serde::Deserialize;

use super::manifest::Manifest;
use super::verify::{Verified, read_json};
use crate::OpenError;

/// Most labels of one head: a head has one output channel each.
const MAX_LABELS: usize = 4096;

/// Names of what the heads tell apart; empty for a task that the bundle lacks.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The intents in scope, in the bundle's order.
    pub intents: Vec<String>,
    /// Names of the slots, in the bundle's order.
    pub slots: Vec<String>,
    /// The moods, in the order of the head's outputs.
    pub sentiment: Vec<String>,
    /// Kinds of entities, in the bundle's order.
    pub entities: Vec<String>,
    /// Every output of the intent head.
    pub(crate) intent_outputs: Vec<String>,
    /// Which output means out of scope.
    pub(crate) out_of_scope: Option<usize>,
    /// Every output of the slots head.
    pub(crate) slot_tags: Tags,
    /// Every output of the entities head.
    pub(crate) entity_tags: Tags,
    /// What the encoder is told of a token beside its id.
    pub(crate) token_types: TokenTypes,
}

/// The outputs of a head that tags words, and how tags follow each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    pub(crate) tags: Vec<Tag>,
    /// `[from, to]` scores of tags that follow each other; empty: only what is legal counts.
    pub(crate) transitions: Vec<f32>,
}

/// The place of a word inside a span; the kind of span by its index among the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Outside,
    Begin(usize),
    Inside(usize),
}

/// What an encoder with types is told of each token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TokenTypes {
    /// The class of its word's letter case.
    #[serde(default)]
    pub cases: bool,
    /// Added for the tokens of a passage.
    #[serde(default)]
    pub passage_offset: u32,
}

#[derive(Default, Deserialize)]
struct LabelsFile {
    #[serde(default)]
    intents: Vec<String>,
    out_of_scope: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    transitions: Vec<Vec<f32>>,
    #[serde(default)]
    sentiment: Vec<String>,
    #[serde(default)]
    entities: EntitiesFile,
    #[serde(default)]
    token_types: TokenTypes,
}

#[derive(Default, Deserialize)]
struct EntitiesFile {
    tags: Vec<String>,
    #[serde(default)]
    transitions: Vec<Vec<f32>>,
}

impl Labels {
    /// File of the labels.
    pub(crate) const FILE: &str = "labels.json";

    pub(crate) fn read(bundle: &mut Verified) -> Result<Self, OpenError> {
        let file: LabelsFile = read_json(bundle, Self::FILE)?;
        let wrong = |message| OpenError::Content { path: bundle.path(Self::FILE), message };
        Self::from_file(file).and_then(|labels| labels.check(&bundle.manifest)).map_err(wrong)
    }

    /// Outputs that a task's head must have.
    pub(crate) fn outputs(&self, task: Task) -> usize {
        match task {
            Task::Intent => self.intent_outputs.len(),
            Task::Slots => self.slot_tags.tags.len(),
            Task::Sentiment => self.sentiment.len(),
            Task::Entities => self.entity_tags.tags.len(),
            // Start and end.
            Task::Answers => 2,
            Task::Embedding => 0,
        }
    }

    fn from_file(file: LabelsFile) -> Result<Self, String> {
        check_names("intents", &file.intents)?;
        check_names("sentiment", &file.sentiment)?;
        let out_of_scope = match &file.out_of_scope {
            Some(name) => Some(
                file.intents
                    .iter()
                    .position(|intent| intent == name)
                    .ok_or_else(|| format!("out_of_scope {name:?} is not among the intents"))?,
            ),
            None => None,
        };
        let in_scope = file.intents.iter().enumerate().filter(|(index, _)| Some(*index) != out_of_scope);
        let intents = in_scope.map(|(_, name)| name.clone()).collect();
        let (slots, slot_tags) = read_tags("tags", &file.tags, &file.transitions)?;
        let EntitiesFile { tags, transitions } = file.entities;
        let (entities, entity_tags) = read_tags("entities.tags", &tags, &transitions)?;
        Ok(Self {
            intents,
            slots,
            sentiment: file.sentiment,
            entities,
            intent_outputs: file.intents,
            out_of_scope,
            slot_tags,
            entity_tags,
            token_types: file.token_types,
        })
    }

    /// Every task has its labels.
    fn check(self, manifest: &Manifest) -> Result<Self, String> {
        let lacking = [
            (Task::Intent, self.intents.is_empty(), "names no intent in scope"),
            (Task::Slots, self.slot_tags.tags.is_empty(), "names no tags of slots"),
            (Task::Sentiment, self.sentiment.is_empty(), "names no moods under sentiment"),
            (Task::Entities, self.entity_tags.tags.is_empty(), "names no tags of entities"),
        ];
        match lacking.into_iter().find(|(task, lacks, _)| *lacks && manifest.has(*task)) {
            Some((_, _, message)) => Err(message.to_owned()),
            None => Ok(self),
        }
    }
}

fn check_names(list: &str, names: &[String]) -> Result<(), String> {
    if names.len() > MAX_LABELS {
        return Err(format!("{} {list}; the limit is {MAX_LABELS}", names.len()));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| name.is_empty() || !seen.insert(name.as_str())) {
        Some(name) => Err(format!("{list} holds {name:?} twice, or an empty name")),
        None => Ok(()),
    }
}

/// Kinds of spans and tags. `O` must be there, and each kind needs its `B-`: otherwise no legal sequence exists.
fn read_tags(list: &str, names: &[String], transitions: &[Vec<f32>]) -> Result<(Vec<String>, Tags), String> {
    check_names(list, names)?;
    let kinds: Vec<String> =
        names.iter().filter_map(|name| name.strip_prefix("B-")).map(str::to_owned).collect();
    let index = |kind: &str| {
        kinds.iter().position(|known| known == kind).ok_or_else(|| format!("tag I-{kind} has no B-{kind}"))
    };
    let tags = names
        .iter()
        .map(|name| match name.split_at_checked(2) {
            Some(("B-", kind)) => index(kind).map(Tag::Begin),
            Some(("I-", kind)) => index(kind).map(Tag::Inside),
            _ if name == "O" => Ok(Tag::Outside),
            _ => Err(format!("tag {name:?} is neither O nor B- nor I- of a span")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if !(tags.is_empty() || tags.contains(&Tag::Outside)) {
        return Err(format!("{list} lack O, the one for words outside any span"));
    }
    let count = tags.len();
    let square = transitions.len() == count && transitions.iter().all(|row| row.len() == count);
    if !(transitions.is_empty() || square) {
        return Err(format!("transitions must have a row and a column for each of the {count} tags"));
    }
    Ok((kinds, Tags { tags, transitions: transitions.concat() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn file(intents: &[&str], out_of_scope: Option<&str>, tags: &[&str]) -> LabelsFile {
        LabelsFile {
            intents: owned(intents),
            out_of_scope: out_of_scope.map(str::to_owned),
            tags: owned(tags),
            ..LabelsFile::default()
        }
    }

    fn labels(intents: &[&str], out_of_scope: Option<&str>, tags: &[&str]) -> Result<Labels, String> {
        Labels::from_file(file(intents, out_of_scope, tags))
    }

    fn with_tasks(tasks: &str, labels: Labels) -> Result<Labels, String> {
        let text = format!(
            "schema = 1\nname = \"n\"\nversion = \"1.0.0\"\nlanguages = [\"en\"]\nlicence = \"MIT\"\n\
             tasks = [{tasks}]\nminimum_intentd = \"0.1.0\"\nsize_class = \"small\"\nmax_tokens = 64\nfiles = []\n"
        );
        labels.check(&Manifest::read("manifest.toml".as_ref(), &text).unwrap())
    }

    #[test]
    fn transitions_join_all_tags() {
        let with = |transitions: &[&[f32]]| {
            let transitions = transitions.iter().map(|row| row.to_vec()).collect();
            Labels::from_file(LabelsFile { transitions, ..file(&["a"], None, &["O", "B-x"]) })
        };
        assert_eq!(
            with(&[&[0.0, -1.0], &[-2.0, -3.0]]).unwrap().slot_tags.transitions,
            [0.0, -1.0, -2.0, -3.0]
        );
        assert!(with(&[&[0.0, -1.0]]).unwrap_err().contains("2 tags"));
        assert!(with(&[&[0.0, -1.0], &[0.0]]).is_err());
    }

    #[test]
    fn every_task_needs_its_labels_and_no_others() {
        let only_slots = || labels(&[], None, &["O", "B-room"]).unwrap();
        assert_eq!(with_tasks("\"slots\"", only_slots()).unwrap().slots, ["room"]);
        assert!(with_tasks("\"intent\", \"slots\"", only_slots()).unwrap_err().contains("intent"));
        let moods = LabelsFile { sentiment: owned(&["bad", "good"]), ..LabelsFile::default() };
        let moods = Labels::from_file(moods).unwrap();
        assert!(with_tasks("\"sentiment\", \"embedding\", \"qa\"", moods.clone()).is_ok());
        assert!(with_tasks("\"sentiment\", \"entities\"", moods).unwrap_err().contains("entities"));
        assert!(with_tasks("\"slots\"", Labels::default()).is_err());
        let oos_alone = labels(&["oos"], Some("oos"), &["O"]).unwrap();
        assert!(with_tasks("\"intent\"", oos_alone).unwrap_err().contains("no intent in scope"));
    }

    #[test]
    fn out_of_scope_is_not_an_intent() {
        let labels = labels(&["light_on", "oos", "light_off"], Some("oos"), &["O"]).unwrap();
        assert_eq!(labels.intents, ["light_on", "light_off"]);
        assert_eq!(labels.out_of_scope, Some(1));
    }

    #[test]
    fn tags_become_kinds_of_spans() {
        let labels = labels(&["a"], None, &["O", "B-time", "I-time", "B-room"]).unwrap();
        assert_eq!(labels.slots, ["time", "room"]);
        assert_eq!(labels.slot_tags.tags, [Tag::Outside, Tag::Begin(0), Tag::Inside(0), Tag::Begin(1)]);
        let entities: LabelsFile = serde_json::from_str(
            r#"{"entities": {"tags": ["O", "B-person"]}, "token_types": {"cases": true, "passage_offset": 4}}"#,
        )
        .unwrap();
        let labels = Labels::from_file(entities).unwrap();
        assert_eq!((labels.entities, labels.slots), (owned(&["person"]), vec![]));
        assert_eq!(labels.token_types, TokenTypes { cases: true, passage_offset: 4 });
    }

    #[test]
    fn contradictions_are_named() {
        #[track_caller]
        fn check(intents: &[&str], oos: Option<&str>, tags: &[&str], expected: &str) {
            let error = labels(intents, oos, tags).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        check(&["a", "a"], None, &["O"], "twice");
        check(&["a"], Some("oos"), &["O"], "oos");
        check(&["a"], None, &["B-x"], "lack O");
        check(&["a"], None, &["O", "I-x"], "I-x");
        check(&["a"], None, &["O", "x"], "\"x\"");
    }
}
