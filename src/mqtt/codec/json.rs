//! `{"id"?, "text", "language"?, "session"?, "area"?, "attributes"?, "timestamp"?}`. `null` is the same as absent.
//! Fields that are not known here are ignored, so that newer devices can speak to older gateways.

use std::time::{Duration, SystemTime};

use intentd_core::delivery::Reason;
use serde_json::{Map, Value};

use super::{Bad, MAX_PAYLOAD_BYTES, Read, utf8};

/// Deepest nesting of objects and arrays. The contract needs two; the rest is room for fields to come.
const MAX_DEPTH: usize = 8;

pub(super) fn read(payload: &[u8]) -> Result<Read, Bad> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        let message = format!("{} bytes of JSON; the limit is {MAX_PAYLOAD_BYTES}", payload.len());
        return Err(Bad::new(Reason::TooLong, message));
    }
    let text = utf8(payload)?;
    if text.trim().is_empty() {
        return Err(Bad::new(Reason::Empty, "the payload is empty; send {\"text\": \"...\"}"));
    }
    if depth(payload) > MAX_DEPTH {
        return Err(bad_json("", format!("nested deeper than {MAX_DEPTH} levels")));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| bad_json("", error.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(bad_json("", format!("{} where an object was expected", kind(&value))));
    };
    let id = string(&mut object, "id")?.unwrap_or_default();
    fields(object, &id).map_err(|bad| bad.with_id(Some(&id)))
}

fn fields(mut object: Map<String, Value>, id: &str) -> Result<Read, Bad> {
    let text = string(&mut object, "text")?.ok_or_else(|| bad_json("text", "is missing"))?;
    Ok(Read {
        id: id.to_owned(),
        text,
        language: string(&mut object, "language")?.unwrap_or_default(),
        session: string(&mut object, "session")?.unwrap_or_default(),
        area: string(&mut object, "area")?.unwrap_or_default(),
        attributes: attributes(&mut object)?,
        said_at: timestamp(&mut object)?,
    })
}

fn string(object: &mut Map<String, Value>, field: &'static str) -> Result<Option<String>, Bad> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(other) => Err(bad_json(field, format!("{} where a string was expected", kind(&other)))),
    }
}

fn attributes(object: &mut Map<String, Value>) -> Result<Vec<(String, String)>, Bad> {
    let entries = match object.remove("attributes") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            let message = format!("{} where an object of strings was expected", kind(&other));
            return Err(bad_json("attributes", message));
        }
    };
    let text = |(key, value)| match value {
        Value::String(value) => Ok((key, value)),
        other => Err(bad_json("attributes", format!("{} as a value; the values are strings", kind(&other)))),
    };
    entries.into_iter().map(text).collect()
}

fn timestamp(object: &mut Map<String, Value>) -> Result<Option<SystemTime>, Bad> {
    let wrong =
        || bad_json("timestamp", "is neither RFC 3339 (\"2026-03-01T07:30:00Z\") nor Unix milliseconds");
    match object.remove("timestamp") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(stamp)) => {
            let stamp: jiff::Timestamp = stamp.parse().map_err(|_| wrong())?;
            Ok(Some(stamp.into()))
        }
        Some(Value::Number(millis)) => {
            let since_1970 = Duration::from_millis(millis.as_u64().ok_or_else(wrong)?);
            Ok(Some(SystemTime::UNIX_EPOCH.checked_add(since_1970).ok_or_else(wrong)?))
        }
        Some(_) => Err(wrong()),
    }
}

fn bad_json(field: &'static str, message: impl Into<String>) -> Bad {
    let message = message.into();
    let message = if field.is_empty() { message } else { format!("{field}: {message}") };
    Bad::new(Reason::BadJson, message)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Deepest nesting, found without recursion, so that the parser only sees what it can take.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        assert_eq!(depth(br#"{"text": "a [[[[ \" {{{{ b", "list": [[1], {}]}"#), 3);
        assert_eq!(depth(b"]]]]{"), 1);
        assert_eq!(depth(b""), 0);
    }
}
