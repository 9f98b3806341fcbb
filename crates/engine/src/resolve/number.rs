//! English numbers in digits or words, up to billions.

/// Reads the whole list of words as a number; a percentage is its number.
pub(crate) fn parse(words: &[String]) -> Option<f64> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        [rest @ .., "%" | "percent"] | [rest @ .., "per", "cent"] => rest,
        all => all,
    };
    match words {
        ["minus" | "negative", rest @ ..] => positive(rest).map(|value| -value),
        all => positive(all),
    }
}

/// The words as a whole number below `limit`, without percent and sign: for clock times.
pub(crate) fn small(words: &[&str], limit: u32) -> Option<u32> {
    let value = match words {
        [word] if word.bytes().all(|b| b.is_ascii_digit()) && word.len() <= 2 => word.parse().ok()?,
        words => u32::try_from(integer(words)?).ok()?,
    };
    (value < limit).then_some(value)
}

fn positive(words: &[&str]) -> Option<f64> {
    match words {
        [] => None,
        [digits] if digits.starts_with(|c: char| c.is_ascii_digit()) => from_digits(digits),
        [digits, scale] if digits.starts_with(|c: char| c.is_ascii_digit()) => {
            let scale = if *scale == "hundred" { 100 } else { scale_of(scale)? };
            Some(from_digits(digits)? * scale as f64)
        }
        words => from_words(words),
    }
}

/// `21`, `21.5`, `1,250`.
fn from_digits(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if fraction.is_some_and(|fraction| !all_digits(fraction)) {
        return None;
    }
    let groups: Vec<&str> = whole.split(',').collect();
    let (first, rest) = groups.split_first()?;
    let grouped = rest.is_empty() || first.len() <= 3 && rest.iter().all(|group| group.len() == 3);
    if !grouped || !groups.iter().all(|group| all_digits(group)) {
        return None;
    }
    text.replace(',', "").parse().ok()
}

/// `twenty one point five`, `a hundred and three`, `point two`.
fn from_words(words: &[&str]) -> Option<f64> {
    let point = words.iter().position(|&word| word == "point");
    let Some(point) = point else {
        return integer(words).map(|value| value as f64);
    };
    let whole = if point == 0 { 0 } else { integer(&words[..point])? };
    let digits = &words[point + 1..];
    let mut text = format!("{whole}.");
    for word in digits {
        match (unit(word), word.parse::<u32>()) {
            (Some(digit @ 0..=9), _) => text.push_str(&digit.to_string()),
            (_, Ok(_)) if digits.len() == 1 => text.push_str(word),
            _ => return None,
        }
    }
    (!digits.is_empty()).then(|| text.parse().ok())?
}

/// Groups below a thousand, each with a smaller scale than the one before.
fn integer(words: &[&str]) -> Option<u64> {
    if words == ["zero"] {
        return Some(0);
    }
    let mut rest = words;
    let mut total = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (group, after) = below_thousand(rest)?;
        rest = after;
        let scale = match rest.first().and_then(|word| scale_of(word)) {
            Some(scale) => {
                rest = &rest[1..];
                scale
            }
            None => 1,
        };
        if scale >= smallest {
            return None;
        }
        smallest = scale;
        total += group * scale;
        // "two thousand and five": what follows "and" is the last group, without a scale.
        if let ["and", last @ ..] = rest {
            let (group, after) = below_hundred(last)?;
            let ends = after.is_empty() && scale > 1;
            return ends.then_some(total + group);
        }
    }
    (!words.is_empty()).then_some(total)
}

/// `a hundred and five`, `nineteen`, `three hundred`.
fn below_thousand<'a, 'b>(words: &'a [&'b str]) -> Option<(u64, &'a [&'b str])> {
    let (hundreds, rest) = match words {
        ["a" | "an", rest @ ..] => match rest {
            ["hundred", rest @ ..] => (1, rest),
            [scale, ..] if scale_of(scale).is_some() => return Some((1, rest)),
            _ => return None,
        },
        [digit, "hundred", rest @ ..] => (unit(digit).filter(|digit| (1..=9).contains(digit))?, rest),
        words => return below_hundred(words),
    };
    match rest {
        ["and", after @ ..] => below_hundred(after).map(|(value, rest)| (hundreds * 100 + value, rest)),
        rest => Some(match below_hundred(rest) {
            Some((value, rest)) => (hundreds * 100 + value, rest),
            None => (hundreds * 100, rest),
        }),
    }
}

fn below_hundred<'a, 'b>(words: &'a [&'b str]) -> Option<(u64, &'a [&'b str])> {
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let (first, rest) = words.split_first()?;
    if let Some(index) = TENS.iter().position(|tens| tens == first) {
        let tens = (index as u64 + 2) * 10;
        return Some(match rest.split_first() {
            Some((word, rest)) if unit(word).is_some_and(|digit| (1..=9).contains(&digit)) => {
                (tens + unit(word)?, rest)
            }
            _ => (tens, rest),
        });
    }
    unit(first).filter(|&value| value > 0).map(|value| (value, rest))
}

/// Zero to nineteen.
fn unit(word: &str) -> Option<u64> {
    const UNITS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    UNITS.iter().position(|unit| *unit == word).map(|value| value as u64)
}

fn scale_of(word: &str) -> Option<u64> {
    match word {
        "thousand" => Some(1_000),
        "million" => Some(1_000_000),
        "billion" => Some(1_000_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::parse;

    #[test]
    fn numbers_are_read() {
        let cases: [(&str, f64); 26] = [
            ("0", 0.0),
            ("21", 21.0),
            ("21.5", 21.5),
            ("-4", -4.0),
            ("1,250", 1250.0),
            ("30%", 30.0),
            ("30 percent", 30.0),
            ("2.5 million", 2.5e6),
            ("3 hundred", 300.0),
            ("zero", 0.0),
            ("seven", 7.0),
            ("Twenty-One", 21.0),
            ("minus three", -3.0),
            ("nineteen", 19.0),
            ("a hundred", 100.0),
            ("a hundred and five", 105.0),
            ("two hundred forty two", 242.0),
            ("a thousand", 1000.0),
            ("two thousand and five", 2005.0),
            ("three hundred thousand", 3e5),
            ("one million two hundred thousand and three", 1_200_003.0),
            ("nine hundred ninety nine billion nine hundred ninety nine million", 999_999_000_000.0),
            ("twenty one point five", 21.5),
            ("point two five", 0.25),
            ("three point one two zero five", 3.1205),
            ("fifty per cent", 50.0),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(&words(text)), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_stays_words() {
        for text in [
            "",
            "a",
            "and",
            "point",
            "percent",
            "one two",
            "twenty twenty",
            "nineteen eighty four",
            "five hundred hundred",
            "two thousand million",
            "1,25",
            "1.2.3",
            "12,",
            "7:30",
            "twenty zero",
            "the two",
            "hundred",
            "one and two",
            "five point",
            "five point ten",
            "minus",
            "0x10",
            "1e5",
            "one thousand and two thousand",
        ] {
            assert_eq!(parse(&words(text)), None, "{text:?}");
        }
    }
}
