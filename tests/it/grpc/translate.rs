//! Translate: commands of a home in another language, with the committed bundle.

use intentd::proto::{Context, Outcome, TranslateRequest, TranslateResponse};
use tonic::{Code, Status};

use super::*;

fn ask(text: &str, language: &str) -> TranslateRequest {
    TranslateRequest { text: text.to_owned(), language: language.to_owned(), ..Default::default() }
}

async fn translate(
    client: &mut NluClient<Channel>,
    text: &str,
    language: &str,
) -> Result<TranslateResponse, Status> {
    client.translate(ask(text, language)).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_said_in_another_language() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    for (text, language, expected) in [
        ("turn on the lights in the kitchen", "de", "Schalte das Licht in der Küche ein"),
        ("turn on the lights in the kitchen", "en", "Turn on the light in the kitchen"),
        ("turn on the lights in the kitchen", "es", "Enciende la luz de la cocina"),
        ("turn on the lights in the kitchen", "fr-CH", "Allume la lumière de la cuisine"),
        ("turn on the lights in the kitchen", "IT", "Accendi la luce della cucina"),
        ("turn on the lights in the kitchen", "nl", "Zet het licht in de keuken aan"),
        ("change the lights to blue", "de", "Stelle das Licht auf Blau"),
        ("vacuum the kitchen", "fr", "Passe l'aspirateur dans la cuisine"),
        ("turn the volume down please", "nl", "Zet het geluid zachter"),
        ("set an alarm for seven thirty am", "es", "Pon una alarma para las 7:30"),
        ("is it going to rain tomorrow", "it", "Pioverà domani?"),
    ] {
        let answer = translate(&mut client, text, language).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.language.len()), (expected, 2), "{answer:?}");
    }
    assert_eq!(daemon.metric("intentd_grpc_requests_total{method=\"Translate\",code=\"OK\"}"), 11.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_has_what_parse_would_answer() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    let context = Some(Context { site: "home".to_owned(), ..Default::default() });
    let asked = TranslateRequest { id: "7".to_owned(), context: context.clone(), ..ask(SAID, "de") };
    let answer = client.translate(asked).await.unwrap().into_inner();
    let parsed = client.parse(ParseRequest { context, ..request("7", SAID) }).await.unwrap().into_inner();
    assert_eq!((answer.id.as_str(), answer.language.as_str()), ("7", "de"));
    assert_eq!(answer.understanding.map(timeless), Some(timeless(parsed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_the_table_is_not_found() {
    let daemon = Daemon::start(OFF);
    let mut client = client(&daemon).await;
    let joke = request("", "tell me a joke");
    let joke = client.parse(joke).await.unwrap().into_inner();
    assert_eq!(joke.intent.map(|intent| intent.name).as_deref(), Some("general_joke"));
    let unknown = request("", "xqz vlorp");
    let unknown = client.parse(unknown).await.unwrap().into_inner();
    assert_eq!(unknown.outcome(), Outcome::NotRecognized, "{unknown:?}");
    for (text, language, code, named) in [
        (SAID, "pt-BR", Code::InvalidArgument, "de, en, es, fr, it, nl"),
        (SAID, "", Code::InvalidArgument, "language"),
        ("", "de", Code::InvalidArgument, "text"),
        ("tell me a joke", "de", Code::NotFound, "general_joke"),
        ("tell me a joke", "de", Code::NotFound, "iot_hue_lighton"),
        ("xqz vlorp", "de", Code::NotFound, "not recognized"),
    ] {
        let status = translate(&mut client, text, language).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(named), "{named} is missing in {status}");
    }
    assert_eq!(daemon.metric("intentd_grpc_requests_total{method=\"Translate\",code=\"NOT_FOUND\"}"), 3.0);
}
