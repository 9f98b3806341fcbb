//! Patterns of sentences and how they are filled. The notation stands at the head of `phrases/en.toml`.

use std::collections::{BTreeMap, BTreeSet};

use super::language::Language;
use super::values::Value;

/// A pattern, read.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    /// `{slot}`, `{frame slot}`, or `{part}`.
    Ask {
        frame: Option<String>,
        name: String,
    },
    /// `{word~slot}`: the form of a word that agrees with a slot.
    Agree {
        word: String,
        with: String,
    },
    /// `[a|b]`: the first that can be filled, else nothing.
    Either(Vec<Vec<Node>>),
}

impl Pattern {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let nodes = sequence(&mut rest).ok_or_else(|| format!("{text:?}: a bracket is not closed"))?;
        if rest.is_empty() { Ok(Self(nodes)) } else { Err(format!("{text:?}: can't be read from {rest:?}")) }
    }
}

/// Up to a `|` or `]` that belongs to an outer bracket, or to the end.
fn sequence(rest: &mut &str) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    while let Some(at) = rest.find(['{', '[', '|', ']']) {
        let (text, tail) = rest.split_at(at);
        if !text.is_empty() {
            nodes.push(Node::Text(text.to_owned()));
        }
        *rest = tail;
        match tail.as_bytes()[0] {
            b'{' => {
                let (inside, after) = tail[1..].split_once('}')?;
                nodes.push(ask(inside));
                *rest = after;
            }
            b'[' => {
                let mut alternatives = Vec::new();
                while !rest.starts_with(']') {
                    *rest = rest.get(1..)?;
                    alternatives.push(sequence(rest)?);
                }
                *rest = &rest[1..];
                nodes.push(Node::Either(alternatives));
            }
            _ => return Some(nodes),
        }
    }
    if !rest.is_empty() {
        nodes.push(Node::Text((*rest).to_owned()));
    }
    *rest = "";
    Some(nodes)
}

fn ask(inside: &str) -> Node {
    if let Some((word, with)) = inside.split_once('~') {
        return Node::Agree { word: word.to_owned(), with: with.to_owned() };
    }
    match inside.split_once(' ') {
        Some((frame, name)) => Node::Ask { frame: Some(frame.to_owned()), name: name.to_owned() },
        None => Node::Ask { frame: None, name: inside.to_owned() },
    }
}

/// Fills patterns of one language with the slots of one command.
pub(super) struct Filling<'a> {
    pub(super) language: &'a Language,
    pub(super) slots: &'a BTreeMap<String, Value>,
}

/// What is said so far, and with which slots.
#[derive(Clone, Default)]
struct Said<'a> {
    text: String,
    used: BTreeSet<&'a str>,
}

impl<'a> Filling<'a> {
    /// The first pattern of the command that can be filled and leaves no slot out.
    pub(super) fn sentence(&self, command: &str) -> Option<String> {
        let patterns = self.language.say.get(command)?;
        let mut filled = patterns.iter().filter_map(|pattern| self.fill(&pattern.0));
        let said = filled.find(|said| self.slots.keys().all(|slot| said.used.contains(slot.as_str())))?;
        let mut letters = said.text.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect())
    }

    fn fill(&self, nodes: &'a [Node]) -> Option<Said<'a>> {
        let mut said = Said::default();
        for node in nodes {
            self.add(node, &mut said)?;
        }
        Some(said)
    }

    fn add(&self, node: &'a Node, said: &mut Said<'a>) -> Option<()> {
        match node {
            Node::Text(text) => said.text.push_str(text),
            Node::Agree { word, with } => {
                let class = self.language.class(with, self.slots.get(with)?);
                said.text.push_str(&match self.slots.get(word) {
                    Some(value) => self.language.agreeing(value, class)?,
                    None => self.language.agree.get(word)?.get(class)?.clone(),
                });
                said.used.extend([word.as_str(), with.as_str()]);
            }
            Node::Ask { frame, name } => match self.slots.get(name) {
                Some(value) => {
                    said.text.push_str(&self.language.form(name, value, frame.as_deref())?);
                    said.used.insert(name);
                }
                None => {
                    let part = self.language.parts.get(name)?;
                    add(said, part.iter().find_map(|pattern| self.fill(&pattern.0))?);
                }
            },
            Node::Either(alternatives) => {
                if let Some(filled) = alternatives.iter().find_map(|nodes| self.fill(nodes)) {
                    add(said, filled);
                }
            }
        }
        Some(())
    }
}

fn add<'a>(said: &mut Said<'a>, more: Said<'a>) {
    said.text.push_str(&more.text);
    said.used.extend(more.used);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for text in ["{device", "[ {place}", "a ] b", "a | b", "[a|[b]"] {
            assert!(Pattern::read(text).is_err(), "{text}");
        }
        assert!(Pattern::read("[{a}|b[ {c}]] {the d}{is~d}").is_ok());
    }
}
