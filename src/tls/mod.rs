//! TLS for both doors and for our own client: rustls, with ring for the cryptography, 1.2 and 1.3. The only user of rustls.
//!
//! - here: certificates and keys, from PEM files.
//! - `terms`: what the other side and the settings are called. `explain`: what a failed handshake means for whoever can
//!   mend it.

mod explain;
mod terms;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Mistake;
use crate::credentials::{read_public, read_secret};

pub use explain::explain;
pub use terms::{BROKER, GATEWAY, Terms};

/// gRPC is HTTP/2 and nothing else.
const HTTP2: &str = "h2";

/// What the gRPC door shows, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose certificates clients must have; none: they need none.
    pub client_ca: Option<PathBuf>,
}

/// What a client trusts, and what it shows: the MQTT door at its broker, a command at a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Whose certificate the server must have; none: any that the system trusts.
    pub ca: Option<PathBuf>,
    /// Certificate and key of our own, for servers that ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Protocols to ask for (ALPN).
    pub alpn: Vec<String>,
}

/// Reads the files of the gRPC door.
pub fn server(files: &ServerFiles) -> Result<Arc<ServerConfig>, Mistake> {
    let (certificates, key) = identity(("grpc.tls.cert", &files.cert), ("grpc.tls.key", &files.key))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| mistake("grpc.tls.cert", &files.cert, &error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities("grpc.tls.client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| mistake("grpc.tls.client_ca", path, &error))?,
            )
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| unfit("grpc.tls.key", &files.key, &files.cert, &error))?;
    config.alpn_protocols = vec![HTTP2.into()];
    Ok(Arc::new(config))
}

/// Reads the files of a client.
pub fn client(files: &ClientFiles, terms: &Terms) -> Result<Arc<ClientConfig>, Mistake> {
    let roots = match &files.ca {
        Some(path) => authorities(terms.ca, path)?,
        None => system_authorities(terms)?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Mistake::new(terms.ca, error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (certificates, private) = identity((terms.cert, cert), (terms.key, key))?;
            builder
                .with_client_auth_cert(certificates, private)
                .map_err(|error| unfit(terms.key, key, cert, &error))?
        }
    };
    config.alpn_protocols = files.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A client of the gRPC door.
pub fn grpc_client(mut files: ClientFiles) -> Result<Arc<ClientConfig>, Mistake> {
    files.alpn = vec![HTTP2.to_owned()];
    client(&files, &GATEWAY)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(cert: (&str, &Path), key: (&str, &Path)) -> Result<Identity, Mistake> {
    let private = read_secret(key.1).map_err(|message| Mistake::new(key.0, message))?;
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|_| {
        let message = format!(
            "{}: holds no private key in PEM form without a pass phrase (BEGIN PRIVATE KEY)",
            key.1.display()
        );
        Mistake::new(key.0, message)
    })?;
    Ok((certificates(cert.0, cert.1)?, private))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let pem = read_public(path).map_err(|message| Mistake::new(key, message))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(mistake(key, path, &"holds no certificate in PEM form (BEGIN CERTIFICATE)")),
    }
}

fn authorities(key: &str, path: &Path) -> Result<RootCertStore, Mistake> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| mistake(key, path, &error))?;
    }
    Ok(roots)
}

/// Some of a system's certificates may be unreadable or outdated: those are left out.
fn system_authorities(terms: &Terms) -> Result<RootCertStore, Mistake> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let message = format!(
            "is empty, and this system trusts no certificate; set it to the file with the CA of {}'s certificate, or \
             install ca-certificates",
            terms.peer
        );
        return Err(Mistake::new(terms.ca, message));
    }
    Ok(roots)
}

fn unfit(name: &str, key: &Path, cert: &Path, error: &rustls::Error) -> Mistake {
    Mistake::new(name, format!("{} does not go with {}: {error}", key.display(), cert.display()))
}

fn mistake(key: &str, path: &Path, what: &dyn std::fmt::Display) -> Mistake {
    Mistake::new(key, format!("{}: {what}", path.display()))
}
