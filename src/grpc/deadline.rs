//! The client's deadline (header `grpc-timeout`), noted when the call begins. tonic keeps its own and ends a call
//! with CANCELLED; ours starts no later, reaches the queue, and ends it with DEADLINE_EXCEEDED.

use std::time::{Duration, Instant};

use tonic::{Request, Status};

const HEADER: &str = "grpc-timeout";

/// When the call must have ended.
#[derive(Clone, Copy)]
struct Deadline(Instant);

/// Interceptor of every call.
pub(super) fn note_deadline(mut request: Request<()>) -> Result<Request<()>, Status> {
    let Some(header) = request.metadata().get(HEADER) else { return Ok(request) };
    let timeout = header.to_str().ok().and_then(parse).ok_or_else(|| {
        Status::invalid_argument(format!(
            "{HEADER}: {header:?} is not 1 to 8 digits and one of H, M, S, m, u, n"
        ))
    })?;
    // One beyond the clock's range is none.
    if let Some(deadline) = Instant::now().checked_add(timeout) {
        request.extensions_mut().insert(Deadline(deadline));
    }
    Ok(request)
}

/// The deadline that was noted.
pub(super) fn of<T>(request: &Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

fn parse(header: &str) -> Option<Duration> {
    let unit = header.chars().last()?;
    let digits = header.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("2m"), Some(Duration::from_millis(2)));
        assert_eq!(parse("2u"), Some(Duration::from_micros(2)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn anything_else_is_refused() {
        for header in ["", "m", "1", "1s", "-1m", "+1m", "1.5S", "123456789S", " 1S", "1 S", "1µ"] {
            assert_eq!(parse(header), None, "{header:?}");
        }
    }

    #[test]
    fn a_bad_header_is_an_invalid_argument_and_a_far_deadline_is_kept() {
        let mut request = Request::new(());
        request.metadata_mut().insert(HEADER, "soon".parse().unwrap());
        let status = note_deadline(request).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(HEADER), "{status}");

        let mut request = Request::new(());
        request.metadata_mut().insert(HEADER, "99999999H".parse().unwrap());
        assert!(of(&note_deadline(request).unwrap()).is_none_or(|deadline| deadline > Instant::now()));
        assert_eq!(of(&note_deadline(Request::new(())).unwrap()), None);
    }
}
