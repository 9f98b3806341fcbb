//! Why a command ends without success: the exit code (sysexits.h) and a message that says what to do.

use std::error::Error as _;
use std::fmt::Display;
use std::io;

use intentd_core::ParseError;
use tonic::{Code, Status};

use crate::StartError;
use crate::config::{Mistake, Mistakes};

/// Wrong use of the command line.
pub const USAGE: u8 = 64;
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const SYSTEM: u8 = 71;
const IO: u8 = 74;
const CONFIG: u8 = 78;

/// The end of a command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the process.
    pub code: u8,
    /// For standard error; empty when there is nothing to say.
    pub message: String,
}

impl Failure {
    /// The arguments contradict each other.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// The data given to the command is bad: its giver mends it.
    pub(super) fn data(message: impl Display) -> Self {
        Self { code: DATA, message: message.to_string() }
    }

    /// A server can't be reached: it may work later.
    pub(super) fn unavailable(message: impl Display) -> Self {
        Self { code: UNAVAILABLE, message: message.to_string() }
    }

    /// A fault of ours.
    pub(super) fn software(message: impl Display) -> Self {
        Self { code: SOFTWARE, message: message.to_string() }
    }

    /// A file can't be written.
    pub(super) fn io(message: impl Display) -> Self {
        Self { code: IO, message: message.to_string() }
    }

    /// The configuration, or no usable bundle: the operator mends it.
    pub(super) fn config(message: impl Display) -> Self {
        Self { code: CONFIG, message: message.to_string() }
    }

    /// What a server answered instead of an understanding, or how the connection to it ended.
    pub(super) fn status(server: &str, status: &Status) -> Self {
        let message = format!("{server} answered {:?}: {}", status.code(), status.message());
        if status.source().is_some() {
            return Self::unavailable(format!("{message}{}", lost(server)));
        }
        match status.code() {
            Code::Unauthenticated => {
                Self::unavailable(format!("{message}; the token goes into --token-file"))
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Self::data(message),
            Code::Internal | Code::DataLoss | Code::Unknown => Self::software(message),
            _ => Self::unavailable(message),
        }
    }
}

/// What may be the matter where a connection broke off.
fn lost(server: &str) -> &'static str {
    if server.starts_with("https") {
        "; its log says why"
    } else {
        "; if it has a certificate (grpc.tls.cert), give https://HOST:PORT"
    }
}

impl From<Mistake> for Failure {
    fn from(mistake: Mistake) -> Self {
        Self::config(mistake)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::config(mistakes)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::Bundle { .. } | StartError::Setting(_) => CONFIG,
            StartError::Port { .. } => UNAVAILABLE,
            StartError::DoorClosed => SOFTWARE,
            StartError::System(_) => SYSTEM,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Invalid(_) | ParseError::TaskMissing(_) => Self::data(error),
            ParseError::Overloaded { .. } | ParseError::DeadlineExceeded | ParseError::Unavailable(_) => {
                Self::unavailable(error)
            }
            ParseError::Internal(_) => Self::software(error),
        }
    }
}

impl From<io::Error> for Failure {
    /// Whoever reads our output may stop when it has seen enough: `intentd parse … | head -1` is no error.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: 0, message: String::new() },
            _ => Self { code: IO, message: error.to_string() },
        }
    }
}
