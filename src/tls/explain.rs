//! What a failed handshake with the broker means for whoever can mend it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError};

/// What is wrong and how to mend it; none when TLS has no part in the error.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let error = find(error)?;
    Some(match error {
        TlsError::InvalidCertificate(error) => certificate(error),
        TlsError::AlertReceived(alert) => refusal(*alert),
        TlsError::InvalidMessage(_) => {
            "the broker does not speak TLS on this port; set mqtt.broker to its TLS port, 8883 as a rule"
                .to_owned()
        }
        TlsError::NoApplicationProtocol => no_protocol(),
        other => format!("TLS with the broker failed: {other}"),
    })
}

/// The error of rustls below others. An `io::Error` doesn't count what it holds among its sources.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the broker's certificate is signed by an unknown CA; set mqtt.tls.ca to the file with the certificate \
             of the CA that signed it"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the broker's certificate has expired by this machine's clock; renew it, or set the clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the broker's certificate is not valid yet by this machine's clock; set the clock. It is tried again"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the broker's certificate is for another name ({error}); set mqtt.broker to a name that it has, or add \
             this one to its subjectAltName"
        ),
        CertificateError::Revoked => "the broker's certificate was revoked; replace it there".to_owned(),
        other => format!("the broker's certificate is no good: {other}; replace it there (docs/security.md)"),
    }
}

fn refusal(alert: Alert) -> String {
    match alert {
        Alert::CertificateRequired => {
            "the broker wants a client certificate; set mqtt.tls.cert and mqtt.tls.key".to_owned()
        }
        // What brokers say under TLS 1.2 where there is none, and under both versions where it is no good.
        Alert::HandshakeFailure
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => format!(
            "the broker refuses this daemon's certificate ({alert:?}); set mqtt.tls.cert and mqtt.tls.key to one \
             that the broker's CA has signed and that is still valid"
        ),
        Alert::NoApplicationProtocol => no_protocol(),
        other => format!("the broker broke TLS off: {other:?}; its log says why"),
    }
}

fn no_protocol() -> String {
    "the broker knows none of the protocols in mqtt.tls.alpn; leave it empty, or set what the broker asks for"
        .to_owned()
}
