//! English clock times. Without am or pm the hour counts as it was said: "half past six" is 06:30.

use super::number::small;

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    hour: u32,
    minute: u32,
    second: u32,
    /// Digits with a colon, am or pm, or o'clock: nothing but a clock time is written so.
    pub(crate) marked: bool,
}

impl Clock {
    /// ISO 8601.
    pub(crate) fn iso(self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

/// Reads the whole list of words as a clock time.
pub(crate) fn parse(words: &[String]) -> Option<Clock> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (half, words) = half_of_day(&words);
    let (said, words) = match words {
        [rest @ .., "o'clock" | "oclock"] | [rest @ .., "o", "clock"] => (true, rest),
        all => (false, all),
    };
    let clock = match words {
        ["noon" | "midday"] => plain(12, 0),
        ["midnight"] => plain(0, 0),
        ["half", "past", hour @ ..] => plain(hour_of(hour)?, 30),
        words if words.iter().any(|word| matches!(*word, "past" | "after" | "to" | "till")) => {
            relative(words)?
        }
        [digits] if digits.contains(':') => colons(digits)?,
        // An hour alone could be any number.
        hour if said || half.is_some() && small(hour, 24).is_some() => plain(hour_of(hour)?, 0),
        words => hour_and_minute(words)?,
    };
    let named = matches!(words, ["noon" | "midday" | "midnight"]);
    if named && (half.is_some() || said) {
        return None;
    }
    let clock = Clock { marked: clock.marked || half.is_some() || said, ..clock };
    match half {
        Some(half) => in_half(clock, half),
        None => Some(clock),
    }
}

/// Which twelve hours of the day are meant.
#[derive(Clone, Copy)]
enum Half {
    Morning,
    Afternoon,
    /// From six: before midnight; earlier: after it.
    Night,
}

fn half_of_day<'a, 'b>(words: &'a [&'b str]) -> (Option<Half>, &'a [&'b str]) {
    match words {
        [rest @ .., "am" | "a.m." | "a.m"] | [rest @ .., "a", "m"] | [rest @ .., "in", "the", "morning"] => {
            (Some(Half::Morning), rest)
        }
        [rest @ .., "pm" | "p.m." | "p.m"]
        | [rest @ .., "p", "m"]
        | [rest @ .., "in", "the", "afternoon" | "evening"] => (Some(Half::Afternoon), rest),
        [rest @ .., "at", "night"] => (Some(Half::Night), rest),
        all => (None, all),
    }
}

fn in_half(clock: Clock, half: Half) -> Option<Clock> {
    let twelve = clock.hour % 12;
    let hour = match half {
        _ if !(1..=12).contains(&clock.hour) => return None,
        Half::Morning => twelve,
        Half::Afternoon => twelve + 12,
        Half::Night if (6..12).contains(&twelve) => twelve + 12,
        Half::Night => twelve,
    };
    Some(Clock { hour, ..clock })
}

fn plain(hour: u32, minute: u32) -> Clock {
    Clock { hour, minute, second: 0, marked: false }
}

fn hour_of(words: &[&str]) -> Option<u32> {
    small(words, 24)
}

/// `quarter to nine`, `twenty past six`, `5 minutes to 10`.
fn relative(words: &[&str]) -> Option<Clock> {
    let at = words.iter().position(|word| matches!(*word, "past" | "after" | "to" | "till"))?;
    let before = matches!(words[at], "to" | "till");
    let minute = match &words[..at] {
        ["quarter"] | ["a", "quarter"] => 15,
        [minutes @ .., "minutes" | "minute"] | minutes => small(minutes, 60).filter(|&minute| minute > 0)?,
    };
    let hour = hour_of(&words[at + 1..])?;
    if !before {
        return Some(plain(hour, minute));
    }
    // On a clock of twelve hours, the hour before one is twelve.
    let hour = if hour == 1 { 12 } else { (hour + 23) % 24 };
    Some(plain(hour, 60 - minute))
}

/// `19:30`, `7:05:30`.
fn colons(text: &str) -> Option<Clock> {
    let mut parts = text.split(':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let second = parts.next();
    let two_digits = |part: &str| part.len() == 2;
    if parts.next().is_some() || !two_digits(minute) || !second.is_none_or(two_digits) {
        return None;
    }
    let second = second.map_or(Some(0), |second| small(&[second], 60))?;
    Some(Clock { hour: small(&[hour], 24)?, minute: small(&[minute], 60)?, second, marked: true })
}

/// `seven thirty`, `nine oh five`: an hour of twelve, then minutes that no number ends with.
fn hour_and_minute(words: &[&str]) -> Option<Clock> {
    let (hour, minutes) = words.split_first()?;
    let hour = small(&[hour], 13).filter(|&hour| hour > 0)?;
    let minute = match minutes {
        ["oh" | "o", digit] => small(&[digit], 10).filter(|&digit| digit > 0)?,
        minutes => small(minutes, 60).filter(|&minute| minute >= 10)?,
    };
    Some(plain(hour, minute))
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::parse;

    #[test]
    fn clock_times_are_read() {
        let cases = [
            ("7 am", "07:00:00"),
            ("7am", "07:00:00"),
            ("7 A.M.", "07:00:00"),
            ("seven p m", "19:00:00"),
            ("12 am", "00:00:00"),
            ("twelve pm", "12:00:00"),
            ("19:30", "19:30:00"),
            ("7:05", "07:05:00"),
            ("7:30pm", "19:30:00"),
            ("23:59:59", "23:59:59"),
            ("0:00", "00:00:00"),
            ("noon", "12:00:00"),
            ("midnight", "00:00:00"),
            ("half past six", "06:30:00"),
            ("half past 6 pm", "18:30:00"),
            ("quarter to nine", "08:45:00"),
            ("a quarter past ten", "10:15:00"),
            ("twenty five to one", "12:35:00"),
            ("quarter to 12", "11:45:00"),
            ("5 minutes past 10 am", "10:05:00"),
            ("seven o'clock", "07:00:00"),
            ("seven o\u{2019}clock in the evening", "19:00:00"),
            ("seven thirty", "07:30:00"),
            ("six forty-five pm", "18:45:00"),
            ("nine oh five", "09:05:00"),
            ("ten at night", "22:00:00"),
            ("two at night", "02:00:00"),
            ("eight in the morning", "08:00:00"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(&words(text)).map(|time| time.iso()).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_clock_time_stays_words() {
        for text in [
            "",
            "seven",
            "7",
            "19",
            "am",
            "o'clock",
            "13 am",
            "0 pm",
            "19:30 pm",
            "24:00",
            "7:60",
            "7:5",
            "7:",
            ":30",
            "1:2:3:4",
            "noon pm",
            "half past",
            "quarter nine",
            "past six",
            "sixty past two",
            "twenty one",
            "seven five",
            "seven am tomorrow",
            "thirteen thirty",
            "to nine",
        ] {
            assert_eq!(parse(&words(text)), None, "{text:?}");
        }
    }
}
