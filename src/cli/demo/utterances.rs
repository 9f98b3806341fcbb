//! What the demo asks: everyday requests, some that no assistant of a home should act on, and some odd ones.

/// Each differs from the others: a device tells its answers apart by their text where the codec carries no id.
pub(super) const UTTERANCES: [&str; 24] = [
    // Lights and sockets.
    "turn on the kitchen lights",
    "switch off the lamp in the bedroom",
    "dim the living room lights to twenty percent",
    "it's far too dark in here",
    // Heating and other devices.
    "turn on the heater plug in the bathroom",
    "start the vacuum cleaner in the hall",
    "make me a cup of coffee",
    // Music and volume.
    "play some jazz by miles davis",
    "turn the volume down a bit",
    "what song is playing right now",
    // Alarms and calendar.
    "wake me up at seven tomorrow morning",
    "cancel the alarm i set for sunday",
    "remind me to call my mother on friday at noon",
    // Weather and time.
    "will it rain in london this weekend",
    "what time is it in tokyo",
    // Lists.
    "add milk and eggs to my shopping list",
    "what's on my to do list for today",
    // Out of scope.
    "transfer fifty dollars to my savings account",
    "how do i change the oil in my car",
    "what is the meaning of my dream about the purple horse",
    // Odd.
    "lights",
    "uhm could you, like, er, turn that thing off again",
    "PLEASE!!! TURN OFF ALL THE LIGHTS NOW",
    "ñandú 🦙 café naïve",
];
