//! The table is whole, every command can be said in every language, and what is outside is refused.

mod golden;

use intentd_core::SlotValue;

use super::intents::Kind;
use super::values::Value;
use super::*;

/// What was said: "turn on the [device_type:lamp]", or "[time:7 am=07:00:00]" with what it was resolved to.
fn annotated(line: &str) -> (String, Vec<Slot>) {
    let (mut text, mut slots) = (String::new(), Vec::new());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, after) = after.split_once(']').expect("a closed bracket");
        let (name, said) = inside.split_once(':').expect("a label");
        let (said, value) = said.split_once('=').map_or((said, None), |(said, value)| (said, Some(value)));
        text.push_str(before);
        let start = text.len() as u32;
        text.push_str(said);
        let value = value.map(|value| SlotValue::Text(value.to_owned()));
        let value = value.or_else(|| intentd_engine::number(said).map(SlotValue::Number));
        let bytes = start..text.len() as u32;
        let (name, raw_value) = (name.to_owned(), said.to_owned());
        slots.push(Slot { name, raw_value, value, chars: bytes.clone(), bytes, confidence: 1.0 });
        rest = after;
    }
    text.push_str(rest);
    (text, slots)
}

fn say(intent: &str, line: &str, language: &str) -> Result<String, Untranslatable> {
    let (text, slots) = annotated(line);
    // Spaces that don't break are for the eye.
    let said = Phrases::get().say(&Understood { text: &text, intent, slots: &slots }, language);
    said.map(|said| said.replace('\u{a0}', " "))
}

#[test]
fn the_lists_of_every_language_have_the_same_words() {
    let phrases = Phrases::read().unwrap();
    let keys = |language: &Language| -> BTreeMap<String, Vec<String>> {
        let keys = |words: &BTreeMap<String, language::Word>| words.keys().cloned().collect();
        language.words.iter().map(|(list, words)| (list.clone(), keys(words))).collect()
    };
    let english = keys(&phrases.languages["en"]);
    for (tag, language) in &phrases.languages {
        for (list, keys) in keys(language) {
            assert_eq!(keys, english[&list], "{tag}: {list}");
        }
        assert_eq!(language.words.len(), english.len(), "{tag}");
        let taken = language.parts.keys().find(|part| phrases.intents.kind(part).is_some());
        assert_eq!(taken, None, "{tag}: a slot hides the part of its name");
        let commands: Vec<_> = phrases.intents.commands.keys().collect();
        assert_eq!(language.say.keys().collect::<Vec<_>>(), commands, "{tag}");
    }
}

#[test]
fn the_intents_name_only_what_is_there() {
    let phrases = Phrases::read().unwrap();
    let (intents, english) = (&phrases.intents, &phrases.languages["en"]);
    for (intent, cases) in intents.intents.iter().map(|(name, intent)| (name, &intent.cases)) {
        for case in cases {
            assert!(intents.commands.contains_key(&case.say), "{intent}: {}", case.say);
        }
    }
    assert_eq!(intents.dangling(&english.words), [""; 0]);
    for command in intents.commands.keys() {
        let is_meant = |intent: &intents::Intent| intent.cases.iter().any(|case| case.say == *command);
        assert!(intents.intents.values().any(is_meant), "no intent means {command}");
    }
}

/// A value for a slot: the n-th word of its list, a name beyond the last, or what its kind holds.
fn value(phrases: &Phrases, slot: &str, n: usize) -> Value {
    let word = |list: &str| {
        let key = phrases.languages["en"].words[list].keys().nth(n)?.clone();
        Some(Value::Word { list: list.to_owned(), key })
    };
    let name = || Value::Name("Zyx".to_owned());
    match phrases.intents.kind(slot).unwrap() {
        Kind::Noun | Kind::Word => word(slot).unwrap_or_else(name),
        Kind::Closed => word(slot).unwrap_or_else(|| value(phrases, slot, 0)),
        Kind::Text | Kind::Proper => Value::Text("Zyx".to_owned()),
        Kind::Number => Value::Number((n + 1) as f64),
        Kind::Percent if n.is_multiple_of(2) => Value::Percent(n as f64),
        Kind::Percent => Value::Number(n as f64),
        Kind::Time if n % 3 == 1 => word(slot).unwrap_or_else(name),
        Kind::Time => Value::Clock { hour: (n % 24) as u32, minute: (n % 2 * 30) as u32 },
        Kind::Change | Kind::Light => panic!("{slot} is read as another slot"),
    }
}

/// Every command with every set of its slots, and every word of the lists, in every language.
#[test]
fn every_command_is_said_with_every_set_of_slots() {
    let phrases = Phrases::read().unwrap();
    let mut sentences = 0;
    for command in phrases.intents.commands.keys() {
        for set in phrases.intents.forms(command) {
            let longest = set.iter().filter_map(|slot| phrases.languages["en"].words.get(*slot));
            let longest = longest.map(BTreeMap::len).max().unwrap_or(2);
            // Words don't meet but in pairs; larger sets have some words, and names.
            let some: Vec<usize> = if set.len() > 2 { vec![0, 1, longest] } else { (0..=longest).collect() };
            for n in some {
                let slots: BTreeMap<String, Value> =
                    set.iter().map(|slot| ((*slot).to_owned(), value(&phrases, slot, n))).collect();
                for (tag, language) in &phrases.languages {
                    let said = Filling { language, slots: &slots }.sentence(command);
                    let said = said.unwrap_or_else(|| panic!("{tag}: no {command} with {slots:?}"));
                    check(&said, &slots, language);
                    sentences += 1;
                }
            }
        }
    }
    assert!(sentences > 10_000, "{sentences}");
}

#[track_caller]
fn check(said: &str, slots: &BTreeMap<String, Value>, language: &Language) {
    assert!(!said.contains(['{', '}', '[', ']', '|']), "{said}");
    assert!(!said.contains("  ") && said.trim() == said && !said.contains(" ?\u{20}"), "{said:?}");
    assert!(!said.starts_with(char::is_lowercase), "{said}");
    for value in slots.values() {
        let there = match value {
            Value::Name(name) | Value::Text(name) => said.contains(name.as_str()),
            Value::Number(number) | Value::Percent(number) => said.contains(&number.to_string()),
            Value::Clock { hour, .. } => {
                said.contains(&hour.to_string()) || said.contains(&((hour + 11) % 12 + 1).to_string())
            }
            Value::Word { .. } => true,
        };
        assert!(there, "{}: {value:?} is missing in {said:?}", language.name);
    }
}

#[test]
fn what_is_outside_the_table_is_refused() {
    let refused = |intent, line| say(intent, line, "de").unwrap_err().to_string();
    let chat = refused("general_joke", "tell me a joke");
    assert!(
        chat.contains("general_joke") && chat.contains("phrases") && chat.contains("HassTurnOn"),
        "{chat}"
    );
    // A slot is never left out.
    let slot = refused("iot_hue_lightoff", "turn the light off when [person:bob] comes");
    assert!(slot.contains("person"), "{slot}");
    let amount = refused("iot_hue_lightdim", "dim the lights [change_amount:a wee bit]");
    assert!(amount.contains("a wee bit"), "{amount}");
    // Nobody knows what to switch: not everything, therefore.
    assert!(refused("HassTurnOn", "turn on the [area:kitchen]").contains("area"));
    assert!(refused("HassTurnOn", "turn it on").contains("without slots"));
    let two = refused("HassTurnOff", "turn off the [name:fan] and the [name:radio]");
    assert!(two.contains("two values"), "{two}");
    // Whether in two hours or for two hours is not known.
    assert!(say("iot_hue_lighton", "turn on the lights [time:two hours]", "de").is_err());
}

#[test]
fn languages_are_known_by_their_tag() {
    let phrases = Phrases::get();
    for (tag, language) in [("de", "de"), ("de-AT", "de"), ("FR", "fr"), ("pt_BR", ""), ("", ""), ("deu", "")]
    {
        assert_eq!(phrases.language(tag).unwrap_or_default(), language, "{tag:?}");
    }
    let error = phrases.language("pt-BR").unwrap_err().to_string();
    assert!(error.contains("pt-BR") && error.contains("de, en, es, fr, it, nl"), "{error}");
}
