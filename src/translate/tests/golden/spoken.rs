//! Questions, times, media and lists.

use super::check;

#[test]
fn questions_agree() {
    check(&[
        (
            "HassGetState",
            "which [device_class:shutters] are [state:closed]",
            [
                "Sind die Rollläden geschlossen?",
                "Are the shutters closed?",
                "¿Están cerradas las contraventanas?",
                "Est-ce que les volets sont fermés ?",
                "Le persiane sono chiuse?",
                "Zijn de rolluiken dicht?",
            ],
        ),
        (
            "HassGetState",
            "is the [name:tv] in the [area:study] [state:on]",
            [
                "Ist der Fernseher im Arbeitszimmer an?",
                "Is the TV in the study on?",
                "¿Está encendida la tele del despacho?",
                "Est-ce que la télé du bureau est allumée ?",
                "La TV dello studio è accesa?",
                "Is de tv in de werkkamer aan?",
            ],
        ),
        (
            "HassGetState",
            "is the [name:front door] [state:locked]",
            [
                "Ist die Haustür verriegelt?",
                "Is the front door locked?",
                "¿Está bloqueada la puerta principal?",
                "Est-ce que la porte d'entrée est verrouillée ?",
                "La porta d'ingresso è bloccata?",
                "Is de voordeur vergrendeld?",
            ],
        ),
        (
            "HassClimateGetTemperature",
            "how warm is it [floor:upstairs]",
            [
                "Wie warm ist es oben?",
                "What is the temperature upstairs?",
                "¿Qué temperatura hay en el piso de arriba?",
                "Quelle est la température à l'étage ?",
                "Che temperatura c'è al piano di sopra?",
                "Hoe warm is het boven?",
            ],
        ),
        (
            "weather_query",
            "will it be [weather_descriptor:raining] [date:tomorrow] in [place_name:new york]",
            [
                "Wird es morgen in New York regnen?",
                "Will it rain in New York tomorrow?",
                "¿Va a llover mañana en New York?",
                "Est-ce qu'il va pleuvoir demain à New York ?",
                "Pioverà domani a New York?",
                "Gaat het morgen in New York regenen?",
            ],
        ),
        (
            "HassTimerStatus",
            "how long on my [start_minutes:five] minute timer",
            [
                "Wie lange läuft der Timer über 5 Minuten noch?",
                "How much time is left on the timer for 5 minutes?",
                "¿Cuánto tiempo queda en el temporizador de 5 minutos?",
                "Combien de temps reste-t-il sur le minuteur de 5 minutes ?",
                "Quanto manca alla fine del timer da 5 minuti?",
                "Hoeveel tijd staat er nog op de timer van 5 minuten?",
            ],
        ),
        (
            "lists_query",
            "list the items on my [list_name:grocery] list",
            [
                "Was steht auf der Einkaufsliste?",
                "What is on the shopping list?",
                "¿Qué hay en la lista de la compra?",
                "Qu'y a-t-il sur la liste de courses ?",
                "Che cosa c'è nella lista della spesa?",
                "Wat staat er op de boodschappenlijst?",
            ],
        ),
    ]);
}

#[test]
fn times_and_numbers() {
    check(&[
        (
            "alarm_set",
            "wake me up on [date:Friday] at [time:five] in the [timeofday:morning]",
            [
                "Stelle einen Wecker für Freitag früh um 5 Uhr",
                "Set an alarm for Friday morning at 5 am",
                "Pon una alarma para el viernes por la mañana a las 5:00",
                "Mets un réveil pour vendredi matin à 5 h",
                "Imposta una sveglia per venerdì mattina alle 5:00",
                "Zet een wekker voor vrijdagochtend om 5 uur",
            ],
        ),
        (
            "alarm_set",
            "wake me [date:tomorrow] [timeofday:evening] at [time:eight]",
            [
                "Stelle einen Wecker für morgen Abend um 20 Uhr",
                "Set an alarm for tomorrow evening at 8 pm",
                "Pon una alarma para mañana por la noche a las 20:00",
                "Mets un réveil pour demain soir à 20 h",
                "Imposta una sveglia per domani sera alle 20:00",
                "Zet een wekker voor morgenavond om 20 uur",
            ],
        ),
        (
            "alarm_set",
            "set an alarm for [time:one am=01:00:00]",
            [
                "Stelle einen Wecker für 1 Uhr",
                "Set an alarm for 1 am",
                "Pon una alarma para la 1:00",
                "Mets un réveil pour 1 h",
                "Imposta una sveglia per l'1:00",
                "Zet een wekker om 1 uur",
            ],
        ),
        (
            "alarm_set",
            "wake me in [time:two hours]",
            [
                "Stelle einen Wecker, der in 2 Stunden klingelt",
                "Set an alarm in 2 hours",
                "Pon una alarma para dentro de 2 horas",
                "Mets un réveil dans 2 heures",
                "Imposta una sveglia tra 2 ore",
                "Zet een wekker over 2 uur",
            ],
        ),
        (
            "HassStartTimer",
            "count down [hours:1] hour and [minutes:thirty] minutes",
            [
                "Stelle einen Timer auf 1 Stunde und 30 Minuten",
                "Start a timer for 1 hour and 30 minutes",
                "Pon un temporizador de 1 hora y 30 minutos",
                "Lance un minuteur de 1 heure et 30 minutes",
                "Avvia un timer di 1 ora e 30 minuti",
                "Start een timer van 1 uur en 30 minuten",
            ],
        ),
        (
            "HassIncreaseTimer",
            "give the [name:pizza] timer [minutes:two] more minutes",
            [
                "Verlängere den Timer „pizza“ um 2 Minuten",
                "Add 2 minutes to the “pizza” timer",
                "Añade 2 minutos al temporizador «pizza»",
                "Prolonge le minuteur « pizza » de 2 minutes",
                "Aggiungi 2 minuti al timer «pizza»",
                "Verleng de timer ‘pizza’ met 2 minuten",
            ],
        ),
        (
            "HassClimateSetTemperature",
            "make it [temperature:twenty one point five] degrees in the [area:bathroom]",
            [
                "Stelle die Temperatur im Bad auf 21,5 Grad",
                "Set the temperature in the bathroom to 21.5 degrees",
                "Pon la temperatura del baño a 21,5 grados",
                "Règle la température de la salle de bain à 21,5 degrés",
                "Imposta la temperatura in bagno a 21,5 gradi",
                "Zet de temperatuur in de badkamer op 21,5 graden",
            ],
        ),
        (
            "audio_volume_mute",
            "silence for [time:an hour]",
            [
                "Schalte den Ton für 1 Stunde stumm",
                "Mute the sound for 1 hour",
                "Silencia el sonido durante 1 hora",
                "Coupe le son pendant 1 heure",
                "Disattiva l'audio per 1 ora",
                "Demp het geluid gedurende 1 uur",
            ],
        ),
    ]);
}

#[test]
fn media_and_lists() {
    check(&[
        (
            "HassSetVolume",
            "put the [name:speakers] in the [area:garden] on [volume_level:ten]",
            [
                "Stelle die Lautstärke von den Lautsprechern im Garten auf 10 %",
                "Set the volume of the speakers in the garden to 10%",
                "Pon el volumen de los altavoces del jardín al 10 %",
                "Règle le volume des enceintes du jardin à 10 %",
                "Imposta il volume degli altoparlanti del giardino al 10%",
                "Zet het volume van de speakers in de tuin op 10%",
            ],
        ),
        (
            "HassSetVolumeRelative",
            "bring the volume [volume_step:down] in the [area:kids room]",
            [
                "Mach es im Kinderzimmer leiser",
                "Turn the volume in the kids' room down",
                "Baja el volumen en la habitación de los niños",
                "Baisse le volume dans la chambre des enfants",
                "Abbassa il volume nella cameretta",
                "Zet het geluid in de kinderkamer zachter",
            ],
        ),
        (
            "HassMediaNext",
            "next song on the [name:tv]",
            [
                "Spiele den nächsten Titel auf dem Fernseher",
                "Play the next track on the TV",
                "Pon la siguiente canción en la tele",
                "Passe au titre suivant sur la télé",
                "Passa al brano successivo sulla TV",
                "Speel het volgende nummer op de tv af",
            ],
        ),
        (
            "play_music",
            "play [song_name:purple haze] by [artist_name:jimi hendrix]",
            [
                "Spiele „purple haze“ von Jimi Hendrix",
                "Play “purple haze” by Jimi Hendrix",
                "Pon «purple haze» de Jimi Hendrix",
                "Mets « purple haze » par Jimi Hendrix",
                "Riproduci «purple haze» di Jimi Hendrix",
                "Speel ‘purple haze’ van Jimi Hendrix af",
            ],
        ),
        (
            "play_music",
            "play some [music_genre:classical] music",
            [
                "Spiele klassische Musik",
                "Play classical music",
                "Pon música clásica",
                "Mets de la musique classique",
                "Riproduci musica classica",
                "Speel klassieke muziek af",
            ],
        ),
        (
            "HassShoppingListAddItem",
            "put [item:oat milk] on the shopping list",
            [
                "Setze „oat milk“ auf die Einkaufsliste",
                "Add “oat milk” to the shopping list",
                "Añade «oat milk» a la lista de la compra",
                "Ajoute « oat milk » à la liste de courses",
                "Aggiungi «oat milk» alla lista della spesa",
                "Zet ‘oat milk’ op de boodschappenlijst",
            ],
        ),
        (
            "HassListRemoveItem",
            "i don't want [item:paint] on the [name:diy] list any longer",
            [
                "Streiche „paint“ von der Liste „diy“",
                "Remove “paint” from the list “diy”",
                "Quita «paint» de la lista «diy»",
                "Retire « paint » de la liste « diy »",
                "Rimuovi «paint» dalla lista «diy»",
                "Haal ‘paint’ van de lijst ‘diy’ af",
            ],
        ),
        (
            "iot_coffee",
            "make me an [coffee_type:espresso] in [time:five minutes]",
            [
                "Mach mir in 5 Minuten einen Espresso",
                "Make me an espresso in 5 minutes",
                "Hazme un expreso dentro de 5 minutos",
                "Fais-moi un expresso dans 5 minutes",
                "Preparami un espresso tra 5 minuti",
                "Maak over 5 minuten een espresso voor me",
            ],
        ),
    ]);
}
