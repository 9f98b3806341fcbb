//! The call Translate: an utterance is understood as by Parse, then said in another language by the phrase table.

use std::time::Instant;

use tonic::Status;

use crate::convert;
use crate::grpc::nlu::understand;
use crate::inference::Inference;
use crate::proto::{ParseOptions, ParseRequest, TranslateRequest, TranslateResponse};
use crate::translate::{Phrases, Understood};

/// The language is looked up first: without one to say it in nothing has to be understood.
pub(super) async fn translate(
    inference: &Inference,
    request: TranslateRequest,
    deadline: Option<Instant>,
) -> Result<TranslateResponse, Status> {
    let TranslateRequest { id, text, context, language, bundle } = request;
    let phrases = Phrases::get();
    let language = phrases.language(&language).map_err(|error| convert::untranslatable(&error))?;
    let options = Some(ParseOptions { bundle, ..ParseOptions::default() });
    let request = ParseRequest { id, text, context, options };
    let parsed = understand(inference, request, deadline).await.map_err(|error| convert::status(&error))?;
    let said = Understood::new(&parsed.utterance.text, &parsed.understanding)
        .and_then(|understood| phrases.say(&understood, language));
    said.map(|text| convert::translated(&parsed, text, language))
        .map_err(|error| convert::untranslatable(&error))
}
