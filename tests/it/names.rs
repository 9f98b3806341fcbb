//! The names of areas and devices that a site gives: what was said resolves to one of them, or to none.

use std::path::Path;
use std::process::Command;

use intentd::proto::nlu_client::NluClient;
use intentd::proto::{ParseRequest, Slot};
use pbjson_types::value::Kind;
use tempfile::TempDir;

use crate::harness::Daemon;

const OFF: &str = "[mqtt]\nbroker = \"off\"";
const HOME: &str = r#"
[area]
Kitchen = ["cooking area"]
"Living Room" = ["lounge", "sitting room"]

[floor]
"Top floor" = ["under the roof"]

[name]
"light.reading" = ["reading light", "book lamp"]
"#;

/// Written into a folder of its own, and the settings that name it.
fn names(folder: &TempDir, text: &str) -> String {
    let file = folder.path().join("names.toml");
    std::fs::write(&file, text).unwrap();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/home-assistant-en");
    format!("[model]\nbundle = \"{}\"\nnames = \"{}\"\n", bundle.display(), file.display())
}

fn value(slot: &Slot) -> Option<&str> {
    match slot.value.as_ref()?.kind.as_ref()? {
        Kind::StringValue(name) => Some(name),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_becomes_a_name_of_the_site() {
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::start(&format!("{OFF}\n{}", names(&folder, HOME)));
    let mut client = NluClient::connect(format!("http://127.0.0.1:{}", daemon.grpc)).await.unwrap();
    let cases = [
        ("turn on the lights in the cooking area", "area", Some("Kitchen")),
        ("turn off the lights in the lounge", "area", Some("Living Room")),
        ("turn on the reading light", "name", Some("light.reading")),
        ("switch the book lamp off", "name", Some("light.reading")),
        ("turn off the lights in the bathroom", "area", None),
    ];
    for (text, name, expected) in cases {
        let request = ParseRequest { text: text.to_owned(), ..Default::default() };
        let answer = client.parse(request).await.unwrap().into_inner();
        let slot = answer.slots.iter().find(|slot| slot.name == name);
        let slot = slot.unwrap_or_else(|| panic!("{text}: {:?}", answer.slots));
        assert_eq!((value(slot), slot.resolved), (expected, expected.is_some()), "{text}");
        assert!(text.contains(&slot.raw_value), "{text}: {}", slot.raw_value);
    }
}

/// A device that is switched under another's name is worse than a daemon that says why it does not start.
#[test]
fn a_list_that_does_not_fit_stops_the_start() {
    let twice = "[area]\nKitchen = [\"galley\"]\nPantry = [\"the galley\"]";
    let cases = [
        (twice, "\"the galley\" is \"Kitchen\" and \"Pantry\""),
        ("[area]\nKitchen = []\nKitchen = []", "duplicate key"),
        ("[room]\nKitchen = []", "[room] is no slot of home-assistant-en; it has area,"),
        ("[area]\nKitchen = \"galley\"", "NAME = ["),
        ("[area]\nKitchen = [\"\"]", "has no words"),
    ];
    for (text, why) in cases {
        let folder = TempDir::new().unwrap();
        let mut daemon = Daemon::spawn(&format!("{OFF}\n{}", names(&folder, text)), &[]);
        assert_eq!(daemon.exit().code(), Some(78), "{text}: {}", daemon.log());
        assert!(daemon.log().contains("model.names: ") && daemon.log().contains(why), "{}", daemon.log());
    }
    let check = Command::new(env!("CARGO_BIN_EXE_intentd"))
        .args(["config", "check", "--set", "model.names=/nonexistent"])
        .output()
        .unwrap();
    let told = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(78), "{told}");
    assert!(told.contains("model.names: /nonexistent: No such file"), "{told}");
}
