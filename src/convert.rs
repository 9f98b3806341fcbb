//! The one place that knows both the messages of the contract and the vocabulary of `intentd_core`: requests in,
//! answers out, and each error as a gRPC status or as an answer's `error`. The MQTT codec takes its JSON from here.

use std::time::Duration;

use intentd_core::{
    Answer, Context, Entity, Intent, Invalid, InvalidKind, ModelRef, Outcome, ParseError, ParseOptions,
    Question, Sentiment, Slot, SlotValue, Task, Understanding, Utterance,
};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::inference::{Answered, Parsed, Timing};
use crate::proto;
use crate::translate::Untranslatable;

/// Trailer that tells a client how long to wait before it tries again, in milliseconds (gRFC A6).
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Takes a request in. Only what has no place in an [`Utterance`] is refused here; `Utterance::validate` checks
/// the limits.
pub fn utterance(request: proto::ParseRequest) -> Result<Utterance, Invalid> {
    Ok(Utterance {
        id: request.id,
        text: request.text,
        context: request.context.map(context).unwrap_or_default(),
        options: request.options.map(options).transpose()?.unwrap_or_default(),
    })
}

/// The answer to an utterance that was understood, whatever the outcome.
pub fn answer(parsed: &Parsed) -> proto::ParseResponse {
    let Parsed { utterance, understanding, model, timing: spent } = parsed;
    let Understanding { outcome: said, intent: wanted, alternatives, slots, .. } = understanding;
    proto::ParseResponse {
        id: utterance.id.clone(),
        text: utterance.text.clone(),
        context: (utterance.context != Context::default()).then(|| echo(&utterance.context)),
        outcome: outcome(*said).into(),
        intent: wanted.as_ref().map(intent),
        alternatives: alternatives.iter().map(intent).collect(),
        slots: slots.iter().map(slot).collect(),
        entities: understanding.entities.iter().map(entity).collect(),
        sentiment: understanding.sentiment.as_ref().map(sentiment),
        embedding: understanding.embedding.clone(),
        model: Some(model_ref(model)),
        timing: Some(timing(spent)),
        error: None,
    }
}

/// The answer to an utterance that was said in another language.
pub fn translated(parsed: &Parsed, text: String, language: &str) -> proto::TranslateResponse {
    let (id, language) = (parsed.utterance.id.clone(), language.to_owned());
    proto::TranslateResponse { id, text, language, understanding: Some(answer(parsed)) }
}

/// The status of a call for what the phrase table does not have.
pub fn untranslatable(error: &Untranslatable) -> Status {
    match error {
        Untranslatable::Language { .. } => Status::invalid_argument(format!("language: {error}")),
        Untranslatable::NotRecognized | Untranslatable::Intent { .. } | Untranslatable::Slots { .. } => {
            Status::not_found(error.to_string())
        }
    }
}

/// A text whose vector is asked for is an utterance of which nothing else is asked.
pub fn to_embed(request: proto::EmbedRequest) -> Utterance {
    let proto::EmbedRequest { id, text, bundle } = request;
    let options = ParseOptions { tasks: vec![Task::Embedding], bundle, ..ParseOptions::default() };
    Utterance { id, text, options, ..Utterance::default() }
}

/// Its answer.
pub fn embedded(parsed: &Parsed) -> proto::EmbedResponse {
    proto::EmbedResponse {
        id: parsed.utterance.id.clone(),
        embedding: parsed.understanding.embedding.clone(),
        timing: Some(timing(&parsed.timing)),
        error: None,
        model: Some(model_ref(&parsed.model)),
    }
}

/// The answer in a stream when there is no vector.
pub fn not_embedded(id: String, error: &ParseError) -> proto::EmbedResponse {
    // The request has no options, and its task is the call itself.
    let field = match field(error) {
        TASKS => "",
        other => other.trim_start_matches("options."),
    };
    proto::EmbedResponse { id, error: Some(fault(error, field)), ..Default::default() }
}

/// Takes a question in; `Question::validate` checks its limits.
pub fn question(request: proto::AnswerRequest) -> Question {
    let proto::AnswerRequest { id, question, passages, bundle } = request;
    Question { id, question, passages, bundle }
}

/// What the passages say to a question.
pub fn answered(answered: Answered) -> proto::AnswerResponse {
    let Answered { id, answer: Answer { span, score, .. }, model, timing: spent } = answered;
    let bare = proto::AnswerResponse {
        id,
        answerable: span.is_some(),
        score,
        timing: Some(timing(&spent)),
        model: Some(model_ref(&model)),
        ..Default::default()
    };
    let Some(span) = span else { return bare };
    proto::AnswerResponse {
        answer: span.text,
        passage: span.passage as u32,
        start: span.chars.start,
        end: span.chars.end,
        start_byte: span.bytes.start,
        end_byte: span.bytes.end,
        ..bare
    }
}

/// The answer, in a stream or over MQTT, to an utterance that could not be understood.
pub fn refusal(id: String, error: &ParseError) -> proto::ParseResponse {
    let error = fault(error, field(error));
    proto::ParseResponse { id, error: Some(error), ..Default::default() }
}

fn fault(error: &ParseError, field: &str) -> proto::Error {
    proto::Error { code: code(error).into(), message: error.to_string(), field: field.to_owned() }
}

/// Which field of the request is at fault.
fn field(error: &ParseError) -> &'static str {
    match error {
        ParseError::Invalid(invalid) => invalid.field,
        ParseError::TaskMissing(_) => TASKS,
        ParseError::Overloaded { .. }
        | ParseError::DeadlineExceeded
        | ParseError::Unavailable(_)
        | ParseError::Internal(_) => "",
    }
}

/// The status of a call that could not be answered.
pub fn status(error: &ParseError) -> Status {
    let mut status = Status::new(code(error), error.to_string());
    if let ParseError::Overloaded { retry_after } = error {
        // At least 1: a pushback of 0 asks the client to try again at once.
        let wait = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from(wait));
    }
    status
}

/// The JSON form of an answer: field names as in the contract, enums as strings, scalars, lists and enums always
/// there, unset messages absent.
pub fn to_json(answer: &proto::ParseResponse) -> String {
    serde_json::to_string(answer).unwrap_or_else(|_| {
        // Only a value that is no finite number has no JSON form. `answer` makes none; another server might.
        let mut finite = answer.clone();
        for slot in &mut finite.slots {
            slot.value = None;
            slot.resolved = false;
        }
        serde_json::to_string(&finite).expect("an answer without values has a JSON form")
    })
}

const TASKS: &str = "options.tasks";

/// The one mapping of errors to codes.
fn code(error: &ParseError) -> Code {
    match error {
        ParseError::Invalid(_) => Code::InvalidArgument,
        ParseError::TaskMissing(_) => Code::FailedPrecondition,
        ParseError::Overloaded { .. } => Code::ResourceExhausted,
        ParseError::DeadlineExceeded => Code::DeadlineExceeded,
        ParseError::Unavailable(_) => Code::Unavailable,
        ParseError::Internal(_) => Code::Internal,
    }
}

fn context(context: proto::Context) -> Context {
    let proto::Context { site, device, area, language, session, attributes } = context;
    Context { site, device, area, language, session, attributes }
}

fn echo(context: &Context) -> proto::Context {
    let Context { site, device, area, language, session, attributes } = context.clone();
    proto::Context { site, device, area, language, session, attributes }
}

fn options(options: proto::ParseOptions) -> Result<ParseOptions, Invalid> {
    let mut tasks = options.tasks.into_iter().map(task).collect::<Result<Vec<_>, _>>()?;
    tasks.sort_unstable();
    tasks.dedup();
    Ok(ParseOptions {
        tasks,
        intent_filter: options.intent_filter,
        top_k: options.top_k,
        min_confidence: options.min_confidence,
        bundle: options.bundle,
    })
}

fn task(number: i32) -> Result<Task, Invalid> {
    match proto::Task::try_from(number) {
        Ok(proto::Task::Intent) => Ok(Task::Intent),
        Ok(proto::Task::Slots) => Ok(Task::Slots),
        Ok(proto::Task::Sentiment) => Ok(Task::Sentiment),
        Ok(proto::Task::Entities) => Ok(Task::Entities),
        Ok(proto::Task::Embedding) => Ok(Task::Embedding),
        Ok(proto::Task::Unspecified) | Err(_) => Err(Invalid {
            field: TASKS,
            kind: InvalidKind::BadValue,
            message: format!("{number} is no task; give INTENT (1) to EMBEDDING (5), or none"),
        }),
    }
}

fn outcome(outcome: Outcome) -> proto::Outcome {
    match outcome {
        Outcome::Recognized => proto::Outcome::Recognized,
        Outcome::Uncertain => proto::Outcome::Uncertain,
        Outcome::NotRecognized => proto::Outcome::NotRecognized,
    }
}

fn intent(intent: &Intent) -> proto::Intent {
    proto::Intent { name: intent.name.clone(), confidence: intent.confidence }
}

fn slot(slot: &Slot) -> proto::Slot {
    let value = slot.value.as_ref().and_then(value);
    proto::Slot {
        name: slot.name.clone(),
        raw_value: slot.raw_value.clone(),
        resolved: value.is_some(),
        value,
        start: slot.chars.start,
        end: slot.chars.end,
        start_byte: slot.bytes.start,
        end_byte: slot.bytes.end,
        confidence: slot.confidence,
    }
}

fn entity(entity: &Entity) -> proto::Entity {
    proto::Entity {
        r#type: entity.kind.clone(),
        text: entity.text.clone(),
        start: entity.chars.start,
        end: entity.chars.end,
        start_byte: entity.bytes.start,
        end_byte: entity.bytes.end,
        confidence: entity.confidence,
    }
}

fn sentiment(sentiment: &Sentiment) -> proto::Sentiment {
    proto::Sentiment { label: sentiment.label.clone(), score: sentiment.score }
}

fn model_ref(model: &ModelRef) -> proto::ModelRef {
    proto::ModelRef { name: model.name.clone(), version: model.version.clone() }
}

/// `google.protobuf.Value` has no infinity and no NaN.
fn value(value: &SlotValue) -> Option<pbjson_types::Value> {
    match value {
        SlotValue::Number(number) => number.is_finite().then(|| (*number).into()),
        SlotValue::Text(text) => Some(text.clone().into()),
    }
}

fn timing(timing: &Timing) -> proto::Timing {
    proto::Timing {
        tokens: timing.tokens,
        queue_us: micros(timing.queue),
        tokenize_us: micros(timing.tokenize),
        inference_us: micros(timing.inference),
        total_us: micros(timing.total),
    }
}

/// More than 71 minutes don't fit and don't happen.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
