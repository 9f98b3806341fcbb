//! `intentd translate`: in this process and by a daemon.

use super::*;

const LINES: &[u8] = b"turn on the lights in the kitchen\ntell me a joke\nvacuum the kitchen\n";

#[test]
fn translate_says_commands_in_another_language() {
    let said = succeeds(&["translate", "--to", "de", LIGHTS, "play some jazz"], b"");
    assert_eq!(said, "Schalte das Licht in der Küche ein\nSpiele Jazz\n");

    // A line each, so that they stay beside those that were read; the exit code tells that one is empty.
    let output = intentd(&["translate", "--to", "nl"], LINES);
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(stdout(&output), "Zet het licht in de keuken aan\n\nStofzuig de keuken\n");
    assert!(
        stderr(&output).contains("general_joke") && stderr(&output).contains("1 of 3"),
        "{}",
        stderr(&output)
    );

    let unknown = fails(64, &["translate", "--to", "pt", LIGHTS], b"");
    assert!(unknown.contains("de, en, es, fr, it, nl"), "{unknown}");
}

#[test]
fn translate_asks_a_running_daemon() {
    let daemon = Daemon::start("");
    let uri = format!("http://127.0.0.1:{}", daemon.grpc);
    let by_server = intentd(&["translate", "--to", "fr", "--server", &uri], LINES);
    let here = intentd(&["translate", "--to", "fr"], LINES);
    assert_eq!((stdout(&by_server), by_server.status.code()), (stdout(&here), here.status.code()));
    assert!(stdout(&here).starts_with("Allume la lumière de la cuisine\n"), "{}", stdout(&here));
    let unknown = fails(65, &["translate", "--to", "pt", "--server", &uri, LIGHTS], b"");
    assert!(unknown.contains("de, en, es, fr, it, nl"), "{unknown}");
}
