use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;

/// The rules of MQTT 5 section 4.7 as they are written, level by level and without regard to cost.
fn naive_match(topic: &[&str], filter: &[&str]) -> bool {
    match (topic, filter) {
        (_, ["#"]) => true,
        ([], []) => true,
        ([first, topic @ ..], [wanted, filter @ ..]) => {
            (*wanted == "+" || first == wanted) && naive_match(topic, filter)
        }
        _ => false,
    }
}

fn naive(topic: &str, filter: &str) -> bool {
    naive_levels(&levels(topic), &levels(filter))
}

fn naive_levels(topic: &[&str], filter: &[&str]) -> bool {
    let broker_own = topic[0].starts_with('$') && matches!(filter[0], "+" | "#");
    !broker_own && naive_match(topic, filter)
}

fn levels(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

/// Few levels of few kinds, so that topics and filters meet often.
fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "ü", "$SYS"]);
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("empty", |t| !t.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "ü", "$SYS", "+", "+"]);
    let filter = (prop::collection::vec(level, 0..4), any::<bool>()).prop_map(|(mut levels, hash)| {
        levels.extend(hash.then_some("#"));
        levels.join("/")
    });
    filter.prop_filter("empty", |filter| !filter.is_empty())
}

/// Every topic that is as deep as the deepest filter, from an alphabet that has all literals and one more.
static ALL_TOPICS: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let mut topics = vec![String::new()];
    let mut all = Vec::new();
    for depth in 0..4 {
        let longer = topics.iter().flat_map(|topic| {
            ["", "a", "b", "ü", "$SYS", "z"].map(|level| match depth {
                0 => level.to_owned(),
                _ => format!("{topic}/{level}"),
            })
        });
        topics = longer.collect();
        all.extend(topics.iter().filter(|topic| !topic.is_empty()).cloned());
    }
    all.into_iter().map(|topic: String| levels(topic.leak())).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matching_agrees_with_the_written_rules(topic in topic(), filter in filter()) {
        prop_assert!(valid_topic_name(&topic) && valid_filter(&filter));
        prop_assert_eq!(topic_matches_filter(&topic, &filter), naive(&topic, &filter));
        let shared = format!("$share/group/{filter}");
        prop_assert_eq!(topic_matches_filter(&topic, &shared), naive(&topic, &filter));
    }

    #[test]
    fn no_text_makes_matching_panic(a in any::<String>(), b in any::<String>()) {
        topic_matches_filter(&a, &b);
        filters_overlap(&a, &b);
        valid_filter(&a);
        if let Ok(template) = Template::parse(&a) {
            prop_assert!(valid_filter(&template.filter()));
            if let Some(Ok(captures)) = template.matches(&b) {
                prop_assert_eq!(template.render(&captures), Ok(b));
            }
        }
    }

    #[test]
    fn no_device_leads_out_of_the_template(site in any::<String>(), device in any::<String>()) {
        let route = Route::new("intentd/{site}/{device}/utterance", "out/{device}/of/{site}/intent").unwrap();
        if let Some(Ok(captures)) = route.matches(&format!("intentd/{site}/{device}/utterance")) {
            let topic = route.intent_topic(&captures).unwrap();
            prop_assert!(valid_topic_name(&topic));
            prop_assert!(topic_matches_filter(&topic, &route.publication()));
            prop_assert_eq!(captures.site(), site);
            prop_assert_eq!(captures.device(), device);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_filters_overlap_when_some_topic_matches_both(a in filter(), b in filter()) {
        let (x, y) = (levels(&a), levels(&b));
        let witness = ALL_TOPICS.iter().find(|topic| naive_levels(topic, &x) && naive_levels(topic, &y));
        prop_assert_eq!(filters_overlap(&a, &b), witness.is_some(), "{:?}", witness);
        prop_assert_eq!(filters_overlap(&b, &a), witness.is_some());
    }
}

/// What a stranger may call a device: legal and illegal bytes in any order, some of it as long as a topic can be.
fn strange_id(random: &mut TestRng) -> String {
    const PARTS: [&str; 20] = [
        "a", "Z", "7", "_", ".", ":", "-", "+", "#", "/", "$SYS", "\0", "\u{1}", " ", "é", "日", "{device}",
        "..", "%2F", "\u{202e}",
    ];
    let legal_only = random.random_bool(0.3);
    let parts = if legal_only { &PARTS[..7] } else { &PARTS[..] };
    let length = match random.random_range(0..1000) {
        0 => MAX_TOPIC_BYTES,
        1..100 => random.random_range(60..70),
        _ => random.random_range(0..8),
    };
    let mut id = String::new();
    while id.len() < length {
        id.push_str(parts[random.random_range(0..parts.len())]);
    }
    id
}

/// F40, with a fixed seed. Legality is said once more, in other words.
#[test]
fn a_million_ids_lead_nowhere_else() {
    let legal = |id: &str| {
        !id.is_empty()
            && id.len() <= 64
            && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c))
    };
    let route = Route::new("intentd/{site}/{device}/utterance", "out/{device}/of/{site}/intent").unwrap();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut answered = 0;
    for _ in 0..500_000 {
        let (site, device) = (strange_id(&mut random), strange_id(&mut random));
        let matched = route.matches(&format!("intentd/{site}/{device}/utterance"));
        let Some(Ok(captures)) = matched else {
            assert!(!(legal(&site) && legal(&device)), "{site:?} {device:?}: {matched:?}");
            continue;
        };
        answered += 1;
        assert!(legal(&site) && legal(&device), "{site:?} {device:?}");
        assert_eq!(route.intent_topic(&captures).unwrap(), format!("out/{device}/of/{site}/intent"));
    }
    assert!(answered > 10_000, "only {answered} were legal");
}

#[test]
fn matching_has_the_examples_of_the_standard() {
    for (topic, filter, expected) in [
        ("sport/tennis/player1", "sport/tennis/player1/#", true),
        ("sport/tennis/player1/score/wimbledon", "sport/tennis/player1/#", true),
        ("sport", "sport/#", true),
        ("sport/tennis/player1/ranking", "sport/tennis/+", false),
        ("sport/", "sport/+", true),
        ("sport", "sport/+", false),
        ("/finance", "+/+", true),
        ("/finance", "/+", true),
        ("/finance", "+", false),
        ("$SYS/broker/uptime", "#", false),
        ("$SYS/monitor/Clients", "+/monitor/Clients", false),
        ("$SYS/monitor/Clients", "$SYS/monitor/+", true),
        ("ACCOUNTS", "Accounts", false),
        ("日本/部屋", "日本/+", true),
        ("ü", "#", true),
    ] {
        assert_eq!(topic_matches_filter(topic, filter), expected, "{topic} {filter}");
    }
}

#[test]
fn names_and_filters_are_told_from_nonsense() {
    for bad in ["", "a\0b", "a/+", "#", "a+"] {
        assert!(!valid_topic_name(bad), "{bad:?}");
    }
    for bad in [
        "",
        "a\0",
        "a/#/b",
        "a#",
        "a/b#",
        "+a/b",
        "#/a",
        "$share//a",
        "$share/g/",
        "$share/g",
        "$share/+/a",
        "$share/g#/a",
        "$share/g/a#",
    ] {
        assert!(!valid_filter(bad), "{bad:?}");
        assert!(!topic_matches_filter("a", bad) && !filters_overlap("a", bad), "{bad:?}");
    }
    for good in ["#", "+", "/", "a//b", "+/+/#", "$share/g/#", "$share/g/a/+", "$SYS/#", "$share"] {
        assert!(valid_filter(good), "{good:?}");
    }
    let longest = "x".repeat(MAX_TOPIC_BYTES);
    assert!(valid_topic_name(&longest) && valid_filter(&longest));
    let longer = "x".repeat(MAX_TOPIC_BYTES + 1);
    assert!(!valid_topic_name(&longer) && !valid_filter(&longer));
}

#[test]
fn a_template_gives_its_filter_and_its_values() {
    let template = Template::parse("intentd/{site}/{device}/utterance").unwrap();
    assert_eq!(template.filter(), "intentd/+/+/utterance");
    let captures = template.matches("intentd/home-1/mic:2.a_B/utterance").unwrap().unwrap();
    assert_eq!((captures.site(), captures.device()), ("home-1", "mic:2.a_B"));
    for other in ["intentd/home/kitchen/intent", "intentd/home/utterance", "intentd/a/b/c/utterance", ""] {
        assert_eq!(template.matches(other), None, "{other}");
    }
}

#[test]
fn a_level_outside_the_alphabet_is_named() {
    let template = Template::parse("{site}/{device}").unwrap();
    let longest = "x".repeat(MAX_CAPTURE_BYTES);
    assert!(template.matches(&format!("home/{longest}")).unwrap().is_ok());
    for device in ["", "küche", "a b", "a\u{1}", "%", &format!("{longest}x")] {
        let error = template.matches(&format!("home/{device}")).unwrap().unwrap_err();
        assert_eq!(error, TopicError::BadLevel { name: "device".to_owned() }, "{device:?}");
    }
    assert_eq!(template.matches("$SYS/broker"), None);
}

#[test]
fn bad_templates_are_refused_with_the_level() {
    for (text, error) in [
        ("", TemplateError::Empty),
        ("a\0", TemplateError::Nul),
        ("a/+/b", TemplateError::Wildcard("+".to_owned())),
        ("a/{b#}", TemplateError::Wildcard("{b#}".to_owned())),
        ("a/x{b}", TemplateError::Brace("x{b}".to_owned())),
        ("a/{b", TemplateError::Brace("{b".to_owned())),
        ("a/{}", TemplateError::Name(String::new())),
        ("a/{{b}}", TemplateError::Name("{b}".to_owned())),
        ("{a}/b/{a}", TemplateError::Twice("a".to_owned())),
        ("$share/g/{a}", TemplateError::Dollar("$share".to_owned())),
    ] {
        assert_eq!(Template::parse(text), Err(error), "{text:?}");
    }
    let long = "x".repeat(MAX_TOPIC_BYTES + 1);
    assert_eq!(Template::parse(&long), Err(TemplateError::TooLong(MAX_TOPIC_BYTES + 1)));
}

#[test]
fn a_route_publishes_only_what_its_subscription_names() {
    let error = Route::new("a/{site}/in", "a/{site}/{device}/out").unwrap_err();
    assert_eq!(error, TemplateError::Unknown("device".to_owned()));
    assert!(error.to_string().contains("{device}"));
    let route = Route::new("a/{site}/{device}/in", "b/{device}").unwrap();
    let captures = route.matches("a/home/mic/in").unwrap().unwrap();
    assert_eq!(route.intent_topic(&captures).unwrap(), "b/mic");
    assert_eq!(route.intent_topic(&Captures::default()), Err(TopicError::Missing("device".to_owned())));
}

#[test]
fn an_intent_topic_has_the_length_of_a_topic_at_most() {
    let literal = "x".repeat(MAX_TOPIC_BYTES - 10);
    let route = Route::new("{site}", &format!("{literal}/{{site}}")).unwrap();
    let topic = |site: &str| route.intent_topic(&route.matches(site).unwrap().unwrap());
    assert_eq!(topic("123456789").unwrap().len(), MAX_TOPIC_BYTES);
    assert_eq!(topic("1234567890"), Err(TopicError::TooLong(MAX_TOPIC_BYTES + 1)));
}

#[test]
fn a_shared_group_stands_before_the_filter() {
    let route = Route::new("a/{site}", "b").unwrap();
    assert_eq!(route.subscription(), "a/+");
    assert_eq!(route.shared_subscription("nlu").as_deref(), Some("$share/nlu/a/+"));
    for bad in ["", "a/b", "+", "g#", "g\0"] {
        assert_eq!(route.shared_subscription(bad), None, "{bad:?}");
    }
}

#[test]
fn the_daemons_own_topics_are_found_below_a_wide_subscription() {
    assert!(filters_overlap("intentd/+/status", "intentd/gw/status"));
    assert!(filters_overlap("$share/g/intentd/#", "intentd"));
    assert!(!filters_overlap("intentd/+/+/utterance", "intentd/+/+/intent"));
    assert!(!filters_overlap("#", "$SYS/broker/uptime"));
}
