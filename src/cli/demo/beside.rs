//! What bundles can do beside intents: one of each, asked of every bundle that has the task.

use comfy_table::Table;
use tonic::Status;

use crate::cli::client::Client;
use crate::cli::{answer, screen};
use crate::config::{Bundle, Model};
use crate::model::Models;
use crate::proto::{AnswerRequest, EmbedRequest, ParseOptions, ParseRequest, ParseResponse, Task, Timing};

/// A bundle for these tasks, shipped beside the one for intents.
const NEIGHBOUR: &str = "text-en";

const MOOD: &str = "thank you, what a lovely evening that was";
const NAMES: &str = "did Ada Lovelace ever meet Charles Dickens in London";

/// The first two mean the same, the third does not.
const TEXTS: [&str; 3] =
    ["it is far too cold in here", "could you turn the heating up", "when does the library open"];

const QUESTION: &str = "How long does charging take?";
const PASSAGES: [&str; 2] = [
    "The lamp has three levels of brightness. Hold the switch for two seconds to go to the next.",
    "A blinking red light means that the battery is low. Charging takes four hours. Do not use the lamp under water.",
];

/// A row of the table.
pub(super) struct Shown {
    bundle: String,
    asked: String,
    told: String,
    micros: u32,
}

/// Loads the neighbour of the daemon's own bundle as well, where it is there and nothing else was set.
pub(super) fn load_neighbour(model: &mut Model) {
    let neighbour = model.own.folder.with_file_name(NEIGHBOUR);
    if model.more.is_empty() && neighbour != model.own.folder && neighbour.is_dir() {
        model.more.push(Bundle { folder: neighbour, ..Default::default() });
    }
}

pub(super) async fn ask(client: &mut Client, models: &Models) -> Result<Vec<Shown>, Status> {
    let mut shown = Vec::new();
    for engine in models.all() {
        let bundle = &engine.model().name;
        for task in &engine.manifest().tasks {
            let (asked, told, timing) = match task.as_str() {
                "sentiment" => {
                    let answer = parse(client, bundle, Task::Sentiment, MOOD).await?;
                    (quoted(MOOD), mood(&answer), answer.timing)
                }
                "entities" => {
                    let answer = parse(client, bundle, Task::Entities, NAMES).await?;
                    (quoted(NAMES), entities(&answer), answer.timing)
                }
                "embedding" => neighbours(client, bundle).await?,
                "qa" => question(client, bundle).await?,
                _ => continue,
            };
            let micros = timing.map_or(0, |timing| timing.total_us);
            shown.push(Shown { bundle: format!("{bundle}, {task}"), asked, told, micros });
        }
    }
    Ok(shown)
}

pub(super) fn table(shown: &[Shown]) -> Table {
    let mut table = screen::table(&["bundle, task", "asked", "told", "time"]);
    if !screen::is_wide(&table) {
        screen::squeeze(&mut table);
    }
    for Shown { bundle, asked, told, micros } in shown {
        let time = screen::number(screen::micros((*micros).into()));
        table.add_row([bundle.into(), asked.into(), told.into(), time]);
    }
    table
}

async fn parse(client: &mut Client, bundle: &str, task: Task, text: &str) -> Result<ParseResponse, Status> {
    let options = ParseOptions { tasks: vec![task.into()], bundle: bundle.to_owned(), ..Default::default() };
    let request = ParseRequest { text: text.to_owned(), options: Some(options), ..Default::default() };
    Ok(client.parse(request).await?.into_inner())
}

fn mood(answer: &ParseResponse) -> String {
    let mood = answer.sentiment.as_ref();
    mood.map_or_else(String::new, |mood| format!("{}, {}", mood.label, answer::percent(mood.score.into())))
}

fn entities(answer: &ParseResponse) -> String {
    let entities = answer.entities.iter().map(|entity| format!("{} = \"{}\"", entity.r#type, entity.text));
    let entities: Vec<String> = entities.collect();
    if entities.is_empty() { "none".to_owned() } else { entities.join("\n") }
}

type Row = (String, String, Option<Timing>);

/// How near three texts are to each other.
async fn neighbours(client: &mut Client, bundle: &str) -> Result<Row, Status> {
    let (mut vectors, mut timing) = (Vec::new(), None);
    for text in TEXTS {
        let request = EmbedRequest { text: text.to_owned(), bundle: bundle.to_owned(), ..Default::default() };
        let answer = client.embed(request).await?.into_inner();
        vectors.push(answer.embedding);
        timing = answer.timing;
    }
    let cosine = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    let numbered = TEXTS.iter().zip(1..).map(|(text, number)| format!("{number} {}", quoted(text)));
    let told =
        format!("1 and 2: {:.2}\n1 and 3: {:.2}\n2 and 3: {:.2}", cosine(0, 1), cosine(0, 2), cosine(1, 2));
    Ok((numbered.collect::<Vec<_>>().join("\n"), told, timing))
}

async fn question(client: &mut Client, bundle: &str) -> Result<Row, Status> {
    let request = AnswerRequest {
        question: QUESTION.to_owned(),
        passages: PASSAGES.map(str::to_owned).to_vec(),
        bundle: bundle.to_owned(),
        ..Default::default()
    };
    let answer = client.answer(request).await?.into_inner();
    let sure = answer::percent(answer.score.into());
    let told = if answer.answerable {
        format!("\"{}\" in passage {}, {sure}", answer.answer, answer.passage + 1)
    } else {
        format!("not answerable, {sure}")
    };
    let passages = PASSAGES.iter().zip(1..).map(|(text, number)| format!("{number} {text}"));
    Ok((format!("{}\n{}", quoted(QUESTION), passages.collect::<Vec<_>>().join("\n")), told, answer.timing))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
