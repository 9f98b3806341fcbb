//! The names that a site gave to its areas, floors and devices, and what people make of them: articles, a word of kind
//! more or less ("the kitchen lights" for "Kitchen"), a letter that recognition got wrong. What fits two names equally
//! is neither: the wrong device is worse than a question. Words that are known as a floor are one, even where the bundle took
//! them for an area.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use strsim::osa_distance;

/// Names by slot; a slot with names resolves to one of them or not at all.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, List>);

/// A name that stands in a text as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spotted<'a> {
    /// Where, in bytes.
    pub(crate) bytes: Range<usize>,
    /// Whose name it is.
    pub(crate) slots: Vec<&'a str>,
}

/// The names of one slot.
#[derive(Clone, Debug, Default)]
struct List {
    names: Vec<String>,
    /// Whose name each form is.
    forms: Vec<(Form, usize)>,
    /// The same by its letters, so that "bed room" is "bedroom".
    letters: HashMap<String, usize>,
    /// The same without words of kind; None where two names have it.
    bare: HashMap<String, Option<usize>>,
}

/// The words as they are compared: lower case, without hyphens and articles.
type Form = Vec<String>;

/// May stand before a name.
const BEFORE: [&str; 10] = ["the", "a", "an", "my", "our", "your", "this", "that", "all", "every"];

/// May end a name or be left out.
const KINDS: [&str; 9] = ["light", "lights", "lamp", "lamps", "room", "floor", "level", "area", "zone"];

/// From how many letters on a word may differ in one, or in two. Shorter ones are other words too easily.
const ONE_SLIP: usize = 4;
const TWO_SLIPS: usize = 8;

impl Names {
    /// Reads TOML: a table for each slot, in it for each name the other words for it.
    ///
    /// ```
    /// let names = intentd_engine::Names::parse("[area]\nKitchen = []\n\"Living Room\" = [\"lounge\", \"sitting room\"]");
    /// assert_eq!(names.unwrap().resolve("area", "the lounge"), Some(("area", Some("Living Room"))));
    /// ```
    ///
    /// # Errors
    /// What is no table of names, names nothing, or stands for two names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tables: BTreeMap<String, BTreeMap<String, Vec<String>>> =
            toml::from_str(text).map_err(|error| {
                let what =
                    "a table for each slot, in it NAME = [\"OTHER WORDS\", ...] for each name, is expected";
                format!("{}; {what}", error.to_string().trim_end())
            })?;
        let mut lists = BTreeMap::new();
        for (slot, table) in tables {
            let list = List::new(table).map_err(|message| format!("[{slot}]: {message}"))?;
            lists.insert(slot, list);
        }
        Ok(Self(lists))
    }

    /// The slots that have names.
    pub fn slots(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The slot and the name that are meant; no name where the words fit none, or two alike. None where the slot has no
    /// names. Words that are, letter by letter, a name of one other slot alone are that slot.
    pub fn resolve<'a>(&'a self, slot: &'a str, words: &str) -> Option<(&'a str, Option<&'a str>)> {
        let (list, form) = (self.0.get(slot)?, form(words));
        if let Some(name) = list.exactly(&form) {
            return Some((slot, Some(name)));
        }
        let mut others =
            self.0.iter().filter_map(|(other, list)| Some((other.as_str(), list.exactly(&form)?)));
        match (others.next(), others.next()) {
            (Some((other, name)), None) => Some((other, Some(name))),
            _ => Some((slot, list.nearly(&form))),
        }
    }

    /// The names of two words or more that stand in the text, the longest at each place, from left to right. A single word
    /// that is a name has other meanings too often ("second", "top").
    pub(crate) fn spot(&self, text: &str) -> Vec<Spotted<'_>> {
        let longest = self.0.values().flat_map(|list| &list.forms).map(|(form, _)| form.len()).max();
        let Some(longest) = longest else { return Vec::new() };
        // One more, for "bed room".
        let (words, longest) = (words_of(text), longest + 1);
        let (mut spotted, mut first) = (Vec::new(), 0);
        while first < words.len() {
            let mut lasts = (first..words.len().min(first + longest)).rev();
            let found = lasts.find_map(|last| {
                let bytes = words[first].start..words[last].end;
                Some((self.slots_of(&text[bytes.clone()])?, bytes, last))
            });
            first += 1;
            if let Some((slots, bytes, last)) = found {
                spotted.push(Spotted { bytes, slots });
                first = last + 1;
            }
        }
        spotted
    }

    /// Whose name the words are; none if they are none's, a single one, or begin with an article.
    fn slots_of(&self, words: &str) -> Option<Vec<&str>> {
        let form = form(words);
        let whole = form.len() > 1 && plain(words).len() == form.len();
        let slots = self.0.iter().filter(|(_, list)| list.exactly(&form).is_some());
        let slots: Vec<&str> = slots.map(|(slot, _)| slot.as_str()).collect();
        (whole && !slots.is_empty()).then_some(slots)
    }
}

/// Where the words of a text are; marks at their ends are no part of them.
fn words_of(text: &str) -> Vec<Range<usize>> {
    let is_mark = |c: char| !c.is_alphanumeric();
    let (mut words, mut at) = (Vec::new(), 0);
    for chunk in text.split_inclusive(char::is_whitespace) {
        let word = chunk.trim_matches(is_mark);
        if !word.is_empty() {
            let start = at + chunk.len() - chunk.trim_start_matches(is_mark).len();
            words.push(start..start + word.len());
        }
        at += chunk.len();
    }
    words
}

impl List {
    fn new(table: BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut list = Self::default();
        for (name, others) in table {
            let place = list.names.len();
            for words in std::iter::once(&name).chain(&others) {
                let form = form(words);
                if form.is_empty() {
                    return Err(format!("{words:?} of {name:?} has no words"));
                }
                list.bare
                    .entry(bare(&form).concat())
                    .and_modify(|owner| *owner = owner.filter(|&other| other == place))
                    .or_insert(Some(place));
                let other = list.letters.insert(form.concat(), place);
                if let Some(other) = other.filter(|&other| other != place) {
                    let other = &list.names[other];
                    return Err(format!("{words:?} is {other:?} and {name:?}; leave it to one of them"));
                }
                list.forms.push((form, place));
            }
            list.names.push(name);
        }
        Ok(list)
    }

    fn exactly(&self, form: &[String]) -> Option<&str> {
        self.letters.get(&form.concat()).map(|&place| self.names[place].as_str())
    }

    /// Without words of kind, if that is but one name; else the one whose letters are nearest.
    fn nearly(&self, form: &[String]) -> Option<&str> {
        let alike = self.bare.get(&bare(form).concat()).copied();
        let place = alike.unwrap_or_else(|| self.nearest(form))?;
        Some(&self.names[place])
    }

    fn nearest(&self, words: &[String]) -> Option<usize> {
        let slips = self.forms.iter().filter_map(|(form, place)| Some((slips(form, words)?, *place)));
        let best = slips.clone().map(|(slips, _)| slips).min()?;
        let mut places = slips.filter(|&(slips, _)| slips == best).map(|(_, place)| place);
        let first = places.next()?;
        places.all(|place| place == first).then_some(first)
    }
}

fn plain(words: &str) -> Form {
    let words = words.to_lowercase().replace('\u{2019}', "'").replace(['-', '_'], " ");
    words.split_whitespace().map(str::to_owned).collect()
}

fn form(words: &str) -> Form {
    let words = plain(words);
    // A name may be an article: "All".
    let articles = words.iter().take_while(|word| BEFORE.contains(&word.as_str())).count();
    words[articles.min(words.len().saturating_sub(1))..].to_vec()
}

/// Without the word of kind at the end, unless there is no other.
fn bare(form: &[String]) -> &[String] {
    match form {
        [some @ .., last] if !some.is_empty() && KINDS.contains(&last.as_str()) => some,
        all => all,
    }
}

/// In how many letters the words differ, if each differs little enough to be the same word.
fn slips(form: &[String], words: &[String]) -> Option<usize> {
    if form.len() != words.len() {
        return None;
    }
    form.iter().zip(words).try_fold(0, |sum, (ours, said)| {
        let slips = if ours == said { 0 } else { osa_distance(ours, said) };
        let letters = ours.chars().count().min(said.chars().count());
        let allowed = usize::from(letters >= ONE_SLIP) + usize::from(letters >= TWO_SLIPS);
        let digits = |word: &str| word.contains(|c: char| c.is_ascii_digit());
        (slips == 0 || slips <= allowed && !digits(ours) && !digits(said)).then_some(sum + slips)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = r#"
        [area]
        Kitchen = ["cooking area"]
        "Living Room" = ["lounge", "sitting room"]
        Bedroom = []
        "Guest Bedroom" = ["guest's room"]

        [name]
        "light.ceiling" = ["ceiling light", "big light"]
        "light.desk" = ["desk lamp"]
        "fan.desk" = ["desk fan"]
        "light.left" = ["lamp 1"]
        "light.right" = ["lamp 2"]
        "cover.porch" = ["porch blind"]
        "light.porch" = ["porch blink"]
        "#;

    #[track_caller]
    fn check(slot: &str, words: &str, expected: Option<&str>) {
        let names = Names::parse(HOME).unwrap();
        assert_eq!(names.resolve(slot, words), Some((slot, expected)), "{slot}: {words}");
    }

    #[test]
    fn a_name_or_its_other_words_mean_it() {
        check("area", "Kitchen", Some("Kitchen"));
        check("area", "the KITCHEN", Some("Kitchen"));
        check("area", "our living-room", Some("Living Room"));
        check("area", "lounge", Some("Living Room"));
        check("area", "the guest\u{2019}s room", Some("Guest Bedroom"));
        check("name", "light.ceiling", Some("light.ceiling"));
        check("name", "all the big light", Some("light.ceiling"));
    }

    #[test]
    fn a_word_of_kind_may_be_there_or_not() {
        check("area", "kitchen area", Some("Kitchen"));
        check("area", "bed room", Some("Bedroom"));
        check("area", "living", Some("Living Room"));
        check("name", "ceiling lamps", Some("light.ceiling"));
        check("name", "desk light", Some("light.desk"));
        check("name", "desk", Some("light.desk"));
        check("name", "lamp", None);
    }

    #[test]
    fn a_slip_of_letters_is_forgiven_where_no_other_name_is_as_near() {
        check("area", "kitchin", Some("Kitchen"));
        check("area", "giest bedrom", Some("Guest Bedroom"));
        check("name", "porch blinc", None);
        check("name", "lamp 3", None);
        check("name", "disk lamp", Some("light.desk"));
    }

    #[test]
    fn a_name_of_another_slot_is_that_slot() {
        let names = Names::parse(&format!("{HOME}\n[floor]\nUpstairs = [\"lounge\"]")).unwrap();
        assert_eq!(names.resolve("area", "upstairs"), Some(("floor", Some("Upstairs"))));
        assert_eq!(names.resolve("floor", "the desk lamp"), Some(("name", Some("light.desk"))));
        assert_eq!(names.resolve("floor", "the lounge"), Some(("floor", Some("Upstairs"))));
        // Of two slots that are not this one, and what is only nearly a name.
        assert_eq!(names.resolve("name", "lounge"), Some(("name", None)));
        assert_eq!(names.resolve("area", "upstair"), Some(("area", None)));
    }

    #[test]
    fn names_of_several_words_are_spotted_in_a_text() {
        let names = Names::parse(HOME).unwrap();
        let spotted = |text| {
            let found = names.spot(text).into_iter();
            found.map(|name| (text[name.bytes].to_owned(), name.slots.join(" "))).collect::<Vec<_>>()
        };
        let found = |words: &str, slot: &str| (words.to_owned(), slot.to_owned());
        assert_eq!(
            spotted("É: dim the Big  light, and the guest's room\u{3000}desk-lamp!"),
            [found("Big  light", "name"), found("guest's room", "area"), found("desk-lamp", "name")]
        );
        assert_eq!(spotted("lamp 1 in the bed room"), [found("lamp 1", "name"), found("bed room", "area")]);
        assert_eq!(spotted("kitchen"), []);
        assert_eq!(spotted(""), []);
        assert_eq!(Names::default().spot("lamp 1 in the bed room"), []);
    }

    #[test]
    fn what_is_no_name_stays_words() {
        check("area", "garage", None);
        check("area", "", None);
        check("area", "the", None);
        check("name", "the light in the kitchen", None);
        assert_eq!(Names::parse(HOME).unwrap().resolve("floor", "attic"), None);
    }

    #[test]
    fn what_would_mean_two_things_is_refused() {
        let refused = |text: &str| Names::parse(text).unwrap_err();
        let twice = refused("[area]\nKitchen = [\"galley\"]\nPantry = [\"the Galley\"]");
        assert!(
            twice.contains("[area]") && twice.contains("\"the Galley\" is \"Kitchen\" and \"Pantry\""),
            "{twice}"
        );
        assert!(refused("[area]\nKitchen = []\nkitchen = []").contains("leave it to one"));
        assert!(refused("[area]\nKitchen = []\nKitchen = []").contains("duplicate key"));
        assert!(refused("[area]\nKitchen = [\" \"]").contains("has no words"));
        assert!(refused("[area]\nKitchen = \"galley\"").contains("NAME = ["));
        // The same words twice for one name do no harm.
        assert!(Names::parse("[area]\nKitchen = [\"kitchen\", \"galley\", \"galley\"]").is_ok());
    }
}
