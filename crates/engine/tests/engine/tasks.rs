use std::path::Path;
use std::sync::OnceLock;

use intentd_core::{InvalidKind, Outcome, ParseError, Question, Task, Understanding, Utterance};
use intentd_engine::model::{Model, Operators, Sequence};
use intentd_engine::{Engine, OpenError, Thresholds, Trust};
use intentd_kernels::Kernel;
use tempfile::TempDir;

use crate::made_up::{self, lines};
use crate::said;

const ALL: [&str; 6] = ["intent", "slots", "sentiment", "entities", "embedding", "qa"];
const TEXT: [Task; 5] = [Task::Intent, Task::Slots, Task::Sentiment, Task::Entities, Task::Embedding];

fn open(folder: &Path) -> Result<Engine, OpenError> {
    Engine::open(folder, &Trust::default(), Thresholds::default())
}

/// A bundle with every task; opening it has compared it with the bundle that it is made of.
fn whole() -> &'static (TempDir, Engine) {
    static WHOLE: OnceLock<(TempDir, Engine)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let folder = made_up::bundle("made-up", &ALL);
        let engine = open(folder.path()).unwrap();
        (folder, engine)
    })
}

fn parse(engine: &Engine, utterance: &Utterance) -> Result<Understanding, ParseError> {
    engine.worker().unwrap().parse(&[utterance]).remove(0)
}

fn asked(text: &str, tasks: &[Task]) -> Utterance {
    let mut utterance = said(text);
    utterance.options.tasks = tasks.to_vec();
    utterance
}

fn question(question: &str, passages: &[&str]) -> Question {
    let passages = passages.iter().map(|&passage| passage.to_owned()).collect();
    Question { question: question.to_owned(), passages, ..Question::default() }
}

#[test]
fn one_pass_serves_every_task() {
    let (_, engine) = whole();
    let all = parse(engine, &asked("dim the bedroom lights to 30 percent", &TEXT)).unwrap();
    assert_eq!(all.intent.as_ref().unwrap().name, "iot_hue_lightdim");
    let sentiment = all.sentiment.as_ref().unwrap();
    assert_eq!(sentiment.label, "iot_hue_lightdim");
    assert!((sentiment.score - all.intent.as_ref().unwrap().confidence).abs() < 1e-6);
    assert_eq!(all.entities.len(), all.slots.len());
    for (entity, slot) in all.entities.iter().zip(&all.slots) {
        assert_eq!((&entity.kind, &entity.text, &entity.chars), (&slot.name, &slot.raw_value, &slot.chars));
        assert_eq!((&entity.bytes, entity.confidence), (&slot.bytes, slot.confidence));
    }
    assert!((all.embedding.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    // Each alone is the same, and nothing else is told.
    for task in TEXT {
        let one = parse(engine, &asked("dim the bedroom lights to 30 percent", &[task])).unwrap();
        let has = |wanted: Task| if wanted == task { Some(&all) } else { None };
        assert_eq!(one.intent, has(Task::Intent).and_then(|all| all.intent.clone()));
        assert_eq!(one.slots, has(Task::Slots).map_or(vec![], |all| all.slots.clone()));
        assert_eq!(one.sentiment, has(Task::Sentiment).and_then(|all| all.sentiment.clone()));
        assert_eq!(one.entities, has(Task::Entities).map_or(vec![], |all| all.entities.clone()));
        assert_eq!(one.embedding, has(Task::Embedding).map_or(vec![], |all| all.embedding.clone()));
        assert_eq!(one.outcome, Outcome::Recognized, "{task:?}");
    }
    let nothing = parse(engine, &asked("mute yourself", &[Task::Entities])).unwrap();
    assert_eq!((nothing.outcome, nothing.entities), (Outcome::NotRecognized, vec![]));
}

#[test]
fn utterances_with_other_tasks_share_a_batch() {
    let (_, engine) = whole();
    let lines: Vec<String> = lines().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    let utterances: Vec<Utterance> =
        lines.iter().zip(TEXT.iter().cycle()).map(|(text, &task)| asked(text, &[task])).collect();
    let batch: Vec<&Utterance> = utterances.iter().collect();
    let together = engine.worker().unwrap().parse(&batch);
    for (utterance, together) in utterances.iter().zip(together) {
        let (alone, together) = (parse(engine, utterance).unwrap(), together.unwrap());
        assert_eq!(Understanding { effort: alone.effort, ..together }, alone, "{}", utterance.text);
    }
}

/// The ids know no letter case; the types do, and stock tract agrees on what they do.
#[test]
fn letter_case_is_told_by_types() {
    let (folder, engine) = whole();
    let line = lines().into_iter().find(|line| line["text"] == "mute yourself").unwrap();
    let ids = made_up::ids(&line);
    assert_eq!(ids.len(), 4, "a wordpiece for each word");
    let found = |text: &str| parse(engine, &asked(text, &[Task::Embedding])).unwrap().embedding;
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (text, types) in
        [("mute yourself", [0, 0, 0, 0]), ("Mute yourself", [0, 1, 0, 0]), ("MUTE yourselF", [0, 2, 3, 0])]
    {
        let expected = made_up::embedding(folder.path(), &ids, &types);
        let nearness = cosine(&found(text), &expected);
        assert!(nearness > 0.9995, "{text}: {nearness}");
    }
    assert!(cosine(&found("mute yourself"), &found("MUTE yourselF")) < 0.999);
}

/// Our encoder with types against stock tract on the same file.
#[test]
fn our_typed_encoder_agrees_with_stock_tract() {
    let (folder, _) = whole();
    let bytes = std::fs::read(folder.path().join("encoder.onnx")).unwrap();
    let [mut ours, mut stock] = [Operators::Plugged(Kernel::best()), Operators::Stock]
        .map(|operators| Model::load("encoder", &bytes, operators).unwrap().start().unwrap());
    let ids: Vec<u32> = (0..40).map(|i| 100 + i * 37).collect();
    let types: Vec<u32> = (0..40).map(|i| i % 8).collect();
    let sequence = Sequence { ids: &ids, types: &types };
    let (ours, stock) = (ours.encode(&[sequence]).unwrap(), stock.encode(&[sequence]).unwrap());
    let rows = ours.of(0).chunks_exact(ours.width()).zip(stock.of(0).chunks_exact(ours.width()));
    for (ours, stock) in rows {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(ours, stock) / (dot(ours, ours) * dot(stock, stock)).sqrt();
        assert!(cosine > 0.995, "{cosine}");
    }
}

#[test]
fn an_answer_is_found_in_its_passage_with_its_offsets() {
    let (_, engine) = whole();
    let mut worker = engine.worker().unwrap();
    let passages =
        ["mute yourself", "– Zürich –  dim the bedroom lights to 30 percent", "what is 17 times 23"];
    let answer = worker.answer(&question("start the robot vacuum", &passages)).unwrap();
    let span = answer.span.unwrap();
    assert_eq!((span.passage, span.text.as_str()), (1, "bedroom"));
    let passage = passages[1];
    assert_eq!(&passage[span.bytes.start as usize..span.bytes.end as usize], "bedroom");
    assert_eq!(span.chars.start as usize, passage[..span.bytes.start as usize].chars().count());
    assert_eq!(span.chars.len(), 7);
    assert!(
        answer.score > 0.5 && answer.effort.tokens > 30,
        "{answer:?}",
        answer = (answer.score, answer.effort)
    );

    let none = worker.answer(&question("start the robot vacuum", &["mute yourself"])).unwrap();
    assert!(none.span.is_none() && none.score < 0.5, "{none:?}");
}

/// Far behind the first window, in whatever part, the words are found and counted from the passage's beginning.
#[test]
fn long_passages_are_read_in_parts_that_overlap() {
    let (_, engine) = whole();
    let mut worker = engine.worker().unwrap();
    for before in [0, 50, 90, 100, 110, 200, 450] {
        let passage = format!(
            "{}dim the bedroom lights{}",
            "what is 17 times 23. ".repeat(before / 6),
            " mute".repeat(60)
        );
        let answer = worker.answer(&question("start the robot vacuum", &[&passage])).unwrap();
        let span = answer.span.unwrap_or_else(|| panic!("{before}: score {}", answer.score));
        assert_eq!(span.text, "bedroom", "{before}");
        assert_eq!(span.bytes.start as usize, passage.find("bedroom").unwrap());
    }
    // A question longer than its share is cut, and leaves the passage its room.
    let long = "what is 17 times 23 ".repeat(100);
    let answer = worker.answer(&question(&long, &["dim the bedroom lights to 30 percent"])).unwrap();
    assert!(answer.effort.tokens <= 128);
}

#[test]
fn what_nobody_waits_for_is_not_read_to_its_end() {
    let (_, engine) = whole();
    let mut worker = engine.worker().unwrap();
    let passage = "what is 17 times 23. ".repeat(400);
    let asked = std::cell::Cell::new(0);
    let wanted = || asked.replace(asked.get() + 1) < 2;
    let error = worker.answer_while(&question("start the robot vacuum", &[&passage]), wanted).unwrap_err();
    assert_eq!((error, asked.get()), (ParseError::DeadlineExceeded, 3));
    assert!(worker.answer(&question("start the robot vacuum", &["mute yourself"])).is_ok());
}

#[test]
fn neither_order_nor_company_of_passages_changes_a_score() {
    let (_, engine) = whole();
    let mut worker = engine.worker().unwrap();
    let mut answer =
        |passages: &[&str]| worker.answer(&question("start the robot vacuum", passages)).unwrap();
    let alone = answer(&["dim the bedroom lights to 30 percent"]);
    let filler = ["mute yourself"; 20];
    let with = |at: usize| {
        let mut passages = filler.to_vec();
        passages.insert(at, "dim the bedroom lights to 30 percent");
        passages
    };
    for at in [0, 7, 8, 20] {
        let found = answer(&with(at));
        assert_eq!((found.score, found.span.unwrap().passage), (alone.score, at));
    }
    // Of equal ones the first.
    let twice = answer(&["dim the bedroom lights to 30 percent"; 2]);
    assert_eq!(twice.span.unwrap().passage, 0);
}

#[test]
fn too_many_parts_and_bad_questions_are_refused_by_field() {
    let (_, engine) = whole();
    let mut worker = engine.worker().unwrap();
    let marks = "!".repeat(16 * 1024);
    let cases = [
        (question("", &["mute"]), "question", InvalidKind::Empty),
        (question("who", &[]), "passages", InvalidKind::Empty),
        (question("who", &["mute", " "]), "passages", InvalidKind::Empty),
        (question(&"what is 17 times 23 ".repeat(60), &[&marks]), "passages", InvalidKind::TooLong),
    ];
    for (question, field, kind) in cases {
        let error = worker.answer(&question).unwrap_err();
        let ParseError::Invalid(invalid) = &error else { panic!("{error}") };
        assert_eq!((invalid.field, invalid.kind), (field, kind), "{invalid}");
    }
    // Nothing to read is no answer.
    let empty = worker.answer(&question("who", &["\u{200b}"])).unwrap();
    assert_eq!((empty.span, empty.score, empty.effort.tokens), (None, 0.0, 0));
}

#[test]
fn a_bundle_says_which_tasks_it_has() {
    let folder = made_up::bundle("moods", &["sentiment", "embedding"]);
    let engine = open(folder.path()).unwrap();
    let missing = |error: ParseError| match error {
        ParseError::TaskMissing(message) => message,
        error => panic!("{error}"),
    };
    let unnamed = missing(parse(&engine, &said("mute yourself")).unwrap_err());
    assert!(
        unnamed.contains("neither intent nor slots") && unnamed.contains("it has sentiment, embedding"),
        "{unnamed}"
    );
    let entities =
        missing(parse(&engine, &asked("mute yourself", &[Task::Sentiment, Task::Entities])).unwrap_err());
    assert!(entities.contains("no task entities; it has sentiment, embedding"), "{entities}");
    let answer = engine.worker().unwrap().answer(&question("who", &["mute"])).unwrap_err();
    assert!(missing(answer).contains("no task qa"));
    let moods = parse(&engine, &asked("mute yourself", &[Task::Sentiment])).unwrap();
    assert_eq!(
        (moods.outcome, moods.sentiment.unwrap().label.as_str()),
        (Outcome::Recognized, "audio_volume_mute")
    );
    let ours = engine.operators().iter().filter(|operator| operator.kernel.is_some()).count();
    assert_eq!(ours, 2, "encoder and sentiment");
    assert!(open(made_up::bundle("answers", &["qa"]).path()).is_ok());
}

#[test]
fn another_language_is_refused_by_name() {
    let (_, engine) = whole();
    let mut utterance = said("mute yourself");
    for known in ["en", "EN", "en-GB", "en_US", ""] {
        utterance.context.language = known.to_owned();
        parse(engine, &utterance).unwrap();
    }
    for unknown in ["de", "eng", "x", "-"] {
        utterance.context.language = unknown.to_owned();
        let error = parse(engine, &utterance).unwrap_err();
        let ParseError::Invalid(invalid) = &error else { panic!("{error}") };
        assert_eq!(invalid.field, "context.language");
        assert!(invalid.message.contains("understands en"), "{invalid}");
    }
}

/// What the author got must be there and must be so, for every task.
#[test]
fn the_self_test_covers_every_task() {
    type Spoil = fn(&mut serde_json::Value);
    let spoils: [(&str, Spoil); 8] = [
        ("segment_ids", |line| line["segment_ids"][1] = 1.into()),
        ("sentiment", |line| line["sentiment"] = "play_music".into()),
        ("score of", |line| line["sentiment_scores"][0] = 0.5.into()),
        ("entities", |line| line["entities"] = serde_json::json!([{"type": "date", "start": 0, "end": 1}])),
        ("embedding", |line| line["embedding"][0] = 3.into()),
        ("embedding", |line| drop(line.as_object_mut().unwrap().remove("embedding"))),
        ("segment_ids", |line| drop(line.as_object_mut().unwrap().remove("segment_ids"))),
        ("scores", |line| drop(line.as_object_mut().unwrap().remove("sentiment_scores"))),
    ];
    for (named, spoil) in spoils {
        let error = spoiled(|lines| spoil(&mut lines[0]));
        let named = if named == "segment_ids" { "segment_ids|token types" } else { named };
        assert!(
            named.split('|').any(|name| error.contains(name)) && error.contains("line 1"),
            "{named}: {error}"
        );
    }
    let of_question: [(&str, Spoil); 4] = [
        ("token types", |line| line["windows"][0]["segment_ids"][1] = 4.into()),
        ("score", |line| line["score"] = 0.1.into()),
        ("start and end", |line| line["start"] = 7.into()),
        ("windows", |line| line["windows"] = serde_json::json!([])),
    ];
    for (named, spoil) in of_question {
        let error = spoiled(|lines| spoil(lines.last_mut().unwrap()));
        assert!(error.contains(named), "{named}: {error}");
    }
    let untested = spoiled(|lines| drop(lines.pop()));
    assert!(untested.contains("no vector of a question"), "{untested}");
    let untested = spoiled(|lines| drop(lines.drain(..lines.len() - 1)));
    assert!(untested.contains("no vector of a text"), "{untested}");
}

fn spoiled(spoil: impl Fn(&mut Vec<serde_json::Value>)) -> String {
    let (folder, _) = whole();
    let copy = crate::damage::Copy::of(folder.path().to_owned());
    let text = std::fs::read_to_string(copy.path("selftest.jsonl")).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    spoil(&mut lines);
    let text: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
    std::fs::write(copy.path("selftest.jsonl"), text.join("\n")).unwrap();
    copy.vouch_for("selftest.jsonl");
    open(copy.folder.path()).err().expect("the bundle must be refused").to_string()
}
