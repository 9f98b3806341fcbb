//! Sentences as a native speaker would say them, by which articles, contractions, agreement and word order are judged.

mod spoken;

use super::say;

/// Intent, what was said, and that in German, English, Spanish, French, Italian, Dutch.
type Row = (&'static str, &'static str, [&'static str; 6]);

const TAGS: [&str; 6] = ["de", "en", "es", "fr", "it", "nl"];

#[track_caller]
fn check(rows: &[Row]) {
    for (intent, line, expected) in rows {
        for (tag, expected) in TAGS.into_iter().zip(expected) {
            assert_eq!(say(intent, line, tag).as_deref(), Ok(*expected), "{tag}: {line}");
        }
    }
}

#[test]
fn lights_and_devices() {
    check(&[
        (
            "iot_hue_lighton",
            "turn on the lights in the [house_place:kitchen]",
            [
                "Schalte das Licht in der Küche ein",
                "Turn on the light in the kitchen",
                "Enciende la luz de la cocina",
                "Allume la lumière de la cuisine",
                "Accendi la luce della cucina",
                "Zet het licht in de keuken aan",
            ],
        ),
        (
            "HassTurnOff",
            "kill the [domain:lights] in the [area:hallway]",
            [
                "Schalte die Lichter im Flur aus",
                "Turn off the lights in the hallway",
                "Apaga las luces del pasillo",
                "Éteins les lumières du couloir",
                "Spegni le luci del corridoio",
                "Zet de lichten in de gang uit",
            ],
        ),
        (
            "iot_hue_lightoff",
            "turn off the [device_type:bedroom lamp] at [time:nine thirty pm=21:30:00]",
            [
                "Schalte die Lampe im Schlafzimmer um 21:30 Uhr aus",
                "Turn off the lamp in the bedroom at 9:30 pm",
                "Apaga la lámpara del dormitorio a las 21:30",
                "Éteins la lampe de la chambre à 21 h 30",
                "Spegni la lampada della camera da letto alle 21:30",
                "Zet de lamp in de slaapkamer om 21.30 uur uit",
            ],
        ),
        (
            "HassTurnOn",
            "turn on [name:Ambilight] in the [area:Snug]",
            [
                "Schalte „Ambilight“ im Bereich „Snug“ ein",
                "Turn on “Ambilight” in “Snug”",
                "Enciende «Ambilight» del área «Snug»",
                "Allume « Ambilight » de la zone « Snug »",
                "Accendi «Ambilight» dell'area «Snug»",
                "Zet ‘Ambilight’ in de ruimte ‘Snug’ aan",
            ],
        ),
        (
            "HassTurnOn",
            "mind opening the [device_class:curtains] in the [area:guest room]",
            [
                "Öffne die Vorhänge im Gästezimmer",
                "Open the curtains in the guest room",
                "Abre las cortinas de la habitación de invitados",
                "Ouvre les rideaux de la chambre d'amis",
                "Apri le tende della camera degli ospiti",
                "Open de gordijnen in de logeerkamer",
            ],
        ),
        (
            "HassTurnOn",
            "lock up the [name:back door]",
            [
                "Verriegle die Hintertür",
                "Lock the back door",
                "Bloquea la puerta trasera",
                "Verrouille la porte de derrière",
                "Blocca la porta sul retro",
                "Vergrendel de achterdeur",
            ],
        ),
        (
            "HassSetPosition",
            "raise the [name:garage door] [position:20] percent",
            [
                "Stelle das Garagentor auf 20 %",
                "Set the garage door to 20%",
                "Pon la puerta del garaje al 20 %",
                "Règle la porte de garage à 20 %",
                "Imposta la porta del garage al 20%",
                "Zet de garagedeur op 20%",
            ],
        ),
        (
            "iot_hue_lightchange",
            "change the lights in the [house_place:living room] to [color_type:red]",
            [
                "Stelle das Licht im Wohnzimmer auf Rot",
                "Set the light in the living room to red",
                "Pon la luz del salón en rojo",
                "Mets la lumière du salon en rouge",
                "Imposta la luce del soggiorno sul colore rosso",
                "Zet het licht in de woonkamer op rood",
            ],
        ),
        (
            "HassLightSet",
            "i want the [area:dining room] at [brightness:eighty] percent brightness",
            [
                "Stelle das Licht im Esszimmer auf 80 %",
                "Set the brightness of the light in the dining room to 80%",
                "Pon la luz del comedor al 80 %",
                "Règle la lumière de la salle à manger à 80 %",
                "Imposta la luce della sala da pranzo all'80%",
                "Zet het licht in de eetkamer op 80%",
            ],
        ),
        (
            "iot_hue_lightdim",
            "dim the lights in the [house_place:attic] by [change_amount:ten percent]",
            [
                "Dimme das Licht auf dem Dachboden um 10 %",
                "Dim the light in the attic by 10%",
                "Baja la intensidad de la luz del desván un 10 %",
                "Baisse l'intensité de la lumière du grenier de 10 %",
                "Abbassa l'intensità della luce della soffitta del 10%",
                "Dim het licht op zolder met 10%",
            ],
        ),
        (
            "iot_hue_lightdim",
            "lower the lights [change_amount:to forty percent]",
            [
                "Stelle das Licht auf 40 %",
                "Set the brightness of the light to 40%",
                "Pon la luz al 40 %",
                "Règle la lumière à 40 %",
                "Imposta la luce al 40%",
                "Zet het licht op 40%",
            ],
        ),
        (
            "HassVacuumCleanArea",
            "let [name:rosie] clean the [area:entrance]",
            [
                "Lass „rosie“ den Eingang saugen",
                "Have “rosie” clean the entrance",
                "Haz que «rosie» limpie la entrada",
                "Fais passer « rosie » dans l'entrée",
                "Fai passare «rosie» nell'ingresso",
                "Laat ‘rosie’ de hal stofzuigen",
            ],
        ),
        (
            "HassVacuumReturnToBase",
            "send the vacuum home",
            [
                "Schicke den Staubsauger zur Ladestation zurück",
                "Send the vacuum cleaner back to its base",
                "Manda la aspiradora de vuelta a su base",
                "Renvoie l'aspirateur à sa base",
                "Rimanda l'aspirapolvere alla base",
                "Stuur de stofzuiger terug naar het basisstation",
            ],
        ),
    ]);
}
