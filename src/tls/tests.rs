use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use tempfile::TempDir;

use super::*;

/// A folder with `NAME.crt` and `NAME.key`.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write(&folder, &format!("{name}.crt"), &cert.pem());
        write(&folder, &format!("{name}.key"), &signing_key.serialize_pem());
    }
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_key_and_file() {
    let folder = folder(&["a", "b"]);
    write(&folder, "text", "no PEM");
    let at = |name: &str| folder.path().join(name);
    let files = |cert: &str, key: &str, ca: Option<&str>| ServerFiles {
        cert: at(cert),
        key: at(key),
        client_ca: ca.map(at),
    };
    assert!(server(&files("a.crt", "a.key", None)).is_ok());
    assert!(server(&files("a.crt", "a.key", Some("b.crt"))).is_ok());
    for (cert, key, ca, wrong, named) in [
        ("none", "a.key", None, "grpc.tls.cert", "none"),
        ("text", "a.key", None, "grpc.tls.cert", "text"),
        ("a.crt", "text", None, "grpc.tls.key", "text"),
        ("a.crt", "b.key", None, "grpc.tls.key", "b.key"),
        ("a.crt", "a.key", Some("text"), "grpc.tls.client_ca", "text"),
    ] {
        let mistake = server(&files(cert, key, ca)).unwrap_err();
        assert_eq!(mistake.key, wrong, "{mistake}");
        assert!(mistake.message.contains(&*at(named).to_string_lossy()), "{mistake}");
    }
    fs::set_permissions(at("a.key"), Permissions::from_mode(0o644)).unwrap();
    let mistake = server(&files("a.crt", "a.key", None)).unwrap_err();
    assert!(mistake.key == "grpc.tls.key" && mistake.message.contains("chmod"), "{mistake}");
}

#[test]
fn the_brokers_files_have_keys_of_their_own() {
    let folder = folder(&["a", "b"]);
    let at = |name: &str| folder.path().join(name);
    let identity = |key: &str| Some((at("a.crt"), at(key)));
    let good =
        ClientFiles { ca: Some(at("b.crt")), identity: identity("a.key"), alpn: vec!["mqtt".to_owned()] };
    assert_eq!(client(&good, &BROKER).unwrap().alpn_protocols, [b"mqtt"]);
    let unfit = ClientFiles { identity: identity("b.key"), ..good.clone() };
    assert_eq!(client(&unfit, &BROKER).unwrap_err().key, "mqtt.tls.key");
    let no_ca = ClientFiles { ca: Some(at("a.key")), ..good };
    assert_eq!(client(&no_ca, &BROKER).unwrap_err().key, "mqtt.tls.ca");
}

#[test]
fn an_error_of_tls_is_found_below_others_and_explained() {
    let io = |error: TlsError| io::Error::new(io::ErrorKind::InvalidData, error);
    use rustls::{AlertDescription, CertificateError, Error as TlsError};
    use std::io;
    for (error, remedy) in [
        (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "mqtt.tls.ca"),
        (TlsError::InvalidCertificate(CertificateError::Expired), "renew"),
        (TlsError::InvalidCertificate(CertificateError::NotValidYet), "clock"),
        (TlsError::InvalidCertificate(CertificateError::NotValidForName), "subjectAltName"),
        (TlsError::AlertReceived(AlertDescription::CertificateRequired), "mqtt.tls.cert"),
        (TlsError::AlertReceived(AlertDescription::UnknownCA), "mqtt.tls.cert"),
        (TlsError::NoApplicationProtocol, "mqtt.tls.alpn"),
    ] {
        let told = explain(&io(error), &BROKER).unwrap();
        assert!(told.contains(remedy), "{told}");
    }
    assert_eq!(explain(&io::Error::from(io::ErrorKind::ConnectionRefused), &BROKER), None);
    assert!(ServerName::try_from("::1").is_ok(), "a broker may be given by its address");
}
