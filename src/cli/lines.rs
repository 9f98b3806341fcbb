//! Lines of a file or of standard input, numbered and bounded.

use std::io::{self, BufRead, Read};

/// Longest line that is read. The longest utterance has 4 KiB; a gold line may carry a long passage.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Reads line after line.
pub(super) struct Lines<R> {
    reader: R,
    number: usize,
}

/// One line without its end.
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: Result<String, BadLine>,
}

/// Why a line is no text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0 }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        bytes.pop_if(|last| *last == b'\n');
        let text = if bytes.len() > MAX_LINE_BYTES {
            self.reader.skip_until(b'\n')?;
            Err(BadLine::TooLong)
        } else {
            bytes.pop_if(|last| *last == b'\r');
            String::from_utf8(bytes).map_err(|_| BadLine::NotUtf8)
        };
        Ok(Some(Line { number: self.number, text }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(usize, Result<String, BadLine>)> {
        Lines::new(bytes).map(Result::unwrap).map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn ends_of_lines_are_cut_and_counted() {
        let lines = read(b"one\r\n\nthree");
        let expected = ["one", "", "three"].map(|text| Ok(text.to_owned()));
        assert_eq!(lines, (1..).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_bad_line_does_not_spoil_the_next() {
        let mut bytes = vec![b'a'; 2 * MAX_LINE_BYTES];
        bytes.extend(b"\n\xff\xfe\ngood\n");
        bytes.extend([b'b'; MAX_LINE_BYTES]);
        let lines = read(&bytes);
        assert_eq!(lines[..2], [(1, Err(BadLine::TooLong)), (2, Err(BadLine::NotUtf8))]);
        assert_eq!(lines[2], (3, Ok("good".to_owned())));
        assert_eq!(lines[3].1.as_ref().map(String::len), Ok(MAX_LINE_BYTES), "the limit itself is allowed");
    }
}
