//! The payload is the text: for buttons, scripts and `mosquitto_pub`.

use intentd_core::delivery::Reason;
use intentd_core::utterance::MAX_TEXT_BYTES;

use super::{Bad, Read, utf8};

pub(super) fn read(payload: &[u8]) -> Result<Read, Bad> {
    if payload.len() > MAX_TEXT_BYTES {
        let message = format!("text: {} bytes; the limit is {MAX_TEXT_BYTES} bytes of UTF-8", payload.len());
        return Err(Bad::new(Reason::TooLong, message));
    }
    Ok(Read { text: utf8(payload)?.to_owned(), ..Read::default() })
}
