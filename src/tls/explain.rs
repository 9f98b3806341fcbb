//! What a failed handshake means for whoever can mend it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError};

use super::Terms;

/// What is wrong and how to mend it; none when TLS has no part in the error.
pub fn explain(error: &(dyn Error + 'static), terms: &Terms) -> Option<String> {
    let error = find(error)?;
    let Terms { peer, plain, alpn, .. } = terms;
    Some(match error {
        TlsError::InvalidCertificate(error) => certificate(error, terms),
        TlsError::AlertReceived(alert) => refusal(*alert, terms),
        TlsError::InvalidMessage(_) => format!("{peer} does not speak TLS on this port; {plain}"),
        TlsError::NoApplicationProtocol => format!("{peer} knows none of {alpn}"),
        other => format!("TLS with {peer} failed: {other}"),
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

fn certificate(error: &CertificateError, terms: &Terms) -> String {
    let Terms { peer, address, ca, .. } = terms;
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{peer}'s certificate is signed by an unknown CA; set {ca} to the file with the certificate of the CA \
             that signed it"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{peer}'s certificate has expired by this machine's clock; renew it, or set the clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!(
                "{peer}'s certificate is not valid yet by this machine's clock; set the clock, and try again"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "{peer}'s certificate is for another name ({error}); set {address} to a name that it has, or add this \
             one to its subjectAltName"
        ),
        CertificateError::Revoked => format!("{peer}'s certificate was revoked; replace it there"),
        other => format!("{peer}'s certificate is no good: {other}; replace it there (docs/security.md)"),
    }
}

fn refusal(alert: Alert, terms: &Terms) -> String {
    let Terms { peer, cert, key, alpn, .. } = terms;
    match alert {
        Alert::CertificateRequired => format!("{peer} wants a client certificate; set {cert} and {key}"),
        // What servers say under TLS 1.2 where there is none, and under both versions where it is no good.
        Alert::HandshakeFailure
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => format!(
            "{peer} refuses the certificate that it was shown ({alert:?}); set {cert} and {key} to one that its CA has \
             signed and that is still valid"
        ),
        Alert::NoApplicationProtocol => format!("{peer} knows none of {alpn}"),
        other => format!("{peer} broke TLS off: {other:?}; its log says why"),
    }
}
