//! Templates such as `intentd/{site}/{device}/utterance`, and routes made of two of them.

use std::fmt;

use super::filter::{valid_filter, valid_topic_name};
use super::{MAX_CAPTURE_BYTES, MAX_TOPIC_BYTES};

/// A topic with named levels. Each name stands for one whole level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Named(String),
}

/// The levels of a topic that a template names, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    levels: Vec<(String, String)>,
}

/// What is wrong with a template. The operator must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It is empty.
    Empty,
    /// It has this many bytes.
    TooLong(usize),
    /// It holds U+0000.
    Nul,
    /// This level holds a wildcard.
    Wildcard(String),
    /// This level has a brace that isn't part of `{name}`.
    Brace(String),
    /// This name isn't one of [a-z0-9_].
    Name(String),
    /// This name stands twice.
    Twice(String),
    /// The first level is kept for the broker's own topics.
    Dollar(String),
    /// The publish template has a name that the subscribe template lacks.
    Unknown(String),
}

/// What is wrong with the topic of a message that matches a template. The sender must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// The level of this name is outside the alphabet of sites and devices.
    BadLevel {
        /// Name in the template.
        name: String,
    },
    /// The name has no value.
    Missing(String),
    /// The whole topic would have this many bytes.
    TooLong(usize),
}

/// Where utterances come from and where their intents go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    subscribe: Template,
    publish: Template,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        match text {
            "" => return Err(TemplateError::Empty),
            _ if text.len() > MAX_TOPIC_BYTES => return Err(TemplateError::TooLong(text.len())),
            _ if text.contains('\0') => return Err(TemplateError::Nul),
            _ => {}
        }
        let levels = text.split('/').map(Level::parse).collect::<Result<Vec<_>, _>>()?;
        if let Some(Level::Literal(first)) = levels.first()
            && first.starts_with('$')
        {
            return Err(TemplateError::Dollar(first.clone()));
        }
        let template = Self { levels };
        let names: Vec<&str> = template.names().collect();
        match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            Some((_, name)) => Err(TemplateError::Twice((*name).to_owned())),
            None => Ok(template),
        }
    }

    /// The filter that matches every topic of this template.
    pub fn filter(&self) -> String {
        self.render_with(|_| "+")
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Named(name) => Some(name.as_str()),
            Level::Literal(_) => None,
        })
    }

    /// None when the topic isn't one of this template; an error when it is, but a named level is outside
    /// [A-Za-z0-9_.:-]{1,64}: such a message is a dead letter with reason `bad_topic`.
    pub fn matches(&self, topic: &str) -> Option<Result<Captures, TopicError>> {
        if !valid_topic_name(topic) || topic.split('/').count() != self.levels.len() {
            return None;
        }
        // The filter begins with a wildcard then, and wildcards don't stand for the broker's own topics.
        if topic.starts_with('$') {
            return None;
        }
        let pairs = || self.levels.iter().zip(topic.split('/'));
        if pairs().any(|(level, value)| matches!(level, Level::Literal(literal) if literal != value)) {
            return None;
        }
        let named = pairs().filter_map(|(level, value)| match level {
            Level::Named(name) => Some((name, value)),
            Level::Literal(_) => None,
        });
        let capture = |(name, value): (&String, &str)| {
            if is_capture(value) {
                Ok((name.clone(), value.to_owned()))
            } else {
                Err(TopicError::BadLevel { name: name.clone() })
            }
        };
        Some(named.map(capture).collect::<Result<_, _>>().map(|levels| Captures { levels }))
    }

    /// The topic with these values. They come from [`matches`](Self::matches), so they hold no wildcard and no slash.
    pub fn render(&self, captures: &Captures) -> Result<String, TopicError> {
        if let Some(missing) = self.names().find(|name| captures.get(name).is_none()) {
            return Err(TopicError::Missing(missing.to_owned()));
        }
        let topic = self.render_with(|name| captures.get(name).unwrap_or_default());
        if topic.len() > MAX_TOPIC_BYTES { Err(TopicError::TooLong(topic.len())) } else { Ok(topic) }
    }

    fn render_with<'a>(&'a self, value: impl Fn(&'a str) -> &'a str) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Literal(literal) => literal.as_str(),
            Level::Named(name) => value(name),
        });
        levels.collect::<Vec<_>>().join("/")
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.contains(['+', '#']) {
            return Err(TemplateError::Wildcard(text.to_owned()));
        }
        let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            let brace = text.contains(['{', '}']);
            return if brace {
                Err(TemplateError::Brace(text.to_owned()))
            } else {
                Ok(Self::Literal(text.to_owned()))
            };
        };
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(legal) {
            return Err(TemplateError::Name(name.to_owned()));
        }
        Ok(Self::Named(name.to_owned()))
    }
}

fn is_capture(value: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=MAX_CAPTURE_BYTES).contains(&value.len()) && value.bytes().all(legal)
}

impl Captures {
    /// The level of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.levels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The level called `site`; empty where the template has none.
    pub fn site(&self) -> &str {
        self.get("site").unwrap_or_default()
    }

    /// The level called `device`; empty where the template has none.
    pub fn device(&self) -> &str {
        self.get("device").unwrap_or_default()
    }
}

impl Route {
    /// Parses both templates; every name of the publish template must stand in the subscribe template. Whether routes
    /// make a loop is seen with all of them together: [`filters_overlap`](super::filters_overlap).
    pub fn new(subscribe: &str, publish: &str) -> Result<Self, TemplateError> {
        let (subscribe, publish) = (Template::parse(subscribe)?, Template::parse(publish)?);
        if let Some(name) = publish.names().find(|name| subscribe.names().all(|known| known != *name)) {
            return Err(TemplateError::Unknown(name.to_owned()));
        }
        Ok(Self { subscribe, publish })
    }

    /// The filter to subscribe to, without a shared group.
    pub fn subscription(&self) -> String {
        self.subscribe.filter()
    }

    /// The filter to subscribe to as a member of a shared group; none when the group's name is not allowed.
    pub fn shared_subscription(&self, group: &str) -> Option<String> {
        let filter = format!("$share/{group}/{}", self.subscribe.filter());
        (!group.contains('/') && valid_filter(&filter)).then_some(filter)
    }

    /// The topic that `subscription` matches with `value`, a legal site or device, in the place of every name; none where
    /// the template has no names.
    pub fn topic_with(&self, value: &str) -> Option<String> {
        self.subscribe.names().next().map(|_| self.subscribe.render_with(|_| value))
    }

    /// A filter that matches every topic that is published to, to find loops between routes.
    pub fn publication(&self) -> String {
        self.publish.filter()
    }

    /// What an utterance's topic says; see [`Template::matches`].
    pub fn matches(&self, topic: &str) -> Option<Result<Captures, TopicError>> {
        self.subscribe.matches(topic)
    }

    /// Where the intent of an utterance goes.
    pub fn intent_topic(&self, captures: &Captures) -> Result<String, TopicError> {
        self.publish.render(captures)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty; give a topic such as intentd/{site}/{device}/utterance"),
            Self::TooLong(bytes) => write!(f, "has {bytes} bytes; the limit is {MAX_TOPIC_BYTES}"),
            Self::Nul => f.write_str("holds U+0000, which no topic may"),
            Self::Wildcard(level) => {
                write!(f, "has a wildcard in the level \"{level}\"; name the level, such as {{device}}")
            }
            Self::Brace(level) => {
                write!(f, "has a brace in the level \"{level}\"; a name takes the whole level")
            }
            Self::Name(name) => write!(f, "has the name \"{name}\"; use a to z, 0 to 9 and _"),
            Self::Twice(name) => write!(f, "has the name {{{name}}} twice; each may stand once"),
            Self::Dollar(level) => {
                write!(f, "begins with \"{level}\"; topics with $ in front are the broker's own")
            }
            Self::Unknown(name) => {
                write!(
                    f,
                    "publishes to {{{name}}}, which the subscription doesn't have; add it there or drop it"
                )
            }
        }
    }
}

impl std::error::Error for TemplateError {}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLevel { name } => {
                write!(
                    f,
                    "the topic's {name} must be 1 to {MAX_CAPTURE_BYTES} of A to Z, a to z, 0 to 9 and _ . : -"
                )
            }
            Self::Missing(name) => write!(f, "the topic has no {name}"),
            Self::TooLong(bytes) => {
                write!(f, "the topic of the intent would have {bytes} bytes; the limit is {MAX_TOPIC_BYTES}")
            }
        }
    }
}

impl std::error::Error for TopicError {}
