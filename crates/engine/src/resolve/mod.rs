//! From the words of a slot to a value, where the whole text of the slot means one. A part that means something is not
//! enough: "the two towers" is no number.
//!
//! - A slot that the site gave names to is one of them or nothing, see `names`.
//! - A slot whose name speaks of time ("time", "alarm_time", "timeofday") is a clock time or nothing: "seven" alone may
//!   be an hour or a duration, so something must mark it as a clock time ("seven o'clock", "7 am", "7:30").
//! - Any other slot is a number if it reads as one, else a clock time if digits or am and pm mark it; "noon" and
//!   "midnight" stay words there, since songs and places have such names.

mod clock;
mod names;
mod number;

use intentd_core::SlotValue;

pub use names::Names;

/// The slot and its value; none when its words stay words. It is another slot than the bundle took it for where the
/// site's names say so.
pub(crate) fn resolve<'a>(slot: &'a str, text: &str, names: &'a Names) -> (&'a str, Option<SlotValue>) {
    match names.resolve(slot, text) {
        Some((slot, name)) => (slot, name.map(|name| SlotValue::Text(name.to_owned()))),
        None => (slot, number_or_time(slot, text)),
    }
}

fn number_or_time(slot: &str, text: &str) -> Option<SlotValue> {
    let words = words(text);
    let clock = || clock::parse(&words);
    if slot.to_lowercase().contains("time") {
        return clock().map(|time| SlotValue::Text(time.iso()));
    }
    if let Some(number) = number::parse(&words) {
        return Some(SlotValue::Number(number));
    }
    clock().filter(|time| time.marked).map(|time| SlotValue::Text(time.iso()))
}

/// The number that these English words or digits are, as a slot's would be read: "twenty one point five", "30 percent".
pub fn number(text: &str) -> Option<f64> {
    number::parse(&words(text))
}

/// Lower-case words; hyphens part them, and a percent sign or am and pm part from digits.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('\u{2019}', "'").replace('\u{2212}', "-");
    let mut words = Vec::new();
    for chunk in text.split_whitespace() {
        let (negative, chunk) = match chunk.strip_prefix('-') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => (true, rest),
            _ => (false, chunk),
        };
        if negative {
            words.push("minus".to_owned());
        }
        for part in chunk.split('-').filter(|part| !part.is_empty()) {
            let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit()).len();
            let (number, unit) = part.split_at(digits);
            words.extend([number, unit].into_iter().filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(slot: &str, text: &str, expected: Option<SlotValue>) {
        assert_eq!(number_or_time(slot, text), expected, "{slot}: {text:?}");
    }

    fn time(text: &str) -> Option<SlotValue> {
        Some(SlotValue::Text(text.to_owned()))
    }

    #[test]
    fn a_time_slot_is_a_clock_time_or_nothing() {
        check("time", "7 am", time("07:00:00"));
        check("timeofday", "noon", time("12:00:00"));
        check("time", "seven", None);
        check("time", "7", None);
        check("time", "tomorrow", None);
        check("alarm_time", "half past six", time("06:30:00"));
    }

    #[test]
    fn other_slots_are_numbers_first() {
        check("change_amount", "fifty percent", Some(SlotValue::Number(50.0)));
        check("change_amount", "-3", Some(SlotValue::Number(-3.0)));
        check("date", "5 pm", time("17:00:00"));
        check("date", "19:30", time("19:30:00"));
        check("song_name", "midnight", None);
        check("song_name", "the two towers", None);
        check("room", "kitchen", None);
        check("room", "", None);
    }
}
