//! Bearer tokens: a file of callers, each with a token and the services that it may use. Only the tokens' hashes are
//! kept in memory, and none is ever written anywhere.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Mistake;
use crate::credentials::read_secret;

const KEY: &str = "grpc.tokens_file";

/// Services that a caller may be allowed; health needs no token.
pub(super) const SERVICES: [&str; 3] = [
    crate::proto::nlu_server::SERVICE_NAME,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// A shorter token could be guessed, and its hash found by trying.
const MIN_TOKEN_BYTES: usize = 32;

const FORMAT: &str = "a block [[token]] for each caller with name, token or sha256, and services \
                      (docs/security.md shows one)";

/// Who may call what.
pub(super) struct Tokens {
    callers: Vec<Caller>,
}

struct Caller {
    name: String,
    hash: [u8; 32],
    services: Vec<String>,
}

/// Why a call is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no token.
    Missing,
    /// Nobody has this token.
    Unknown,
    /// The caller may not use the service.
    Service { caller: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    name: String,
    token: Option<String>,
    sha256: Option<String>,
    services: Vec<String>,
}

impl Tokens {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, Mistake> {
        let bytes = read_secret(path).map_err(|message| Mistake::new(KEY, message))?;
        let text = String::from_utf8_lossy(&bytes);
        Self::parse(&text).map_err(|message| Mistake::new(KEY, format!("{}: {message}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            // What the parser says could quote a token: the line has to do.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line} is not as it should be: {FORMAT}")
        })?;
        if file.token.is_empty() {
            return Err(format!("names nobody: {FORMAT}"));
        }
        let mut callers: Vec<Caller> = Vec::new();
        for block in file.token {
            let caller = Caller::try_from(block)?;
            if let Some(other) = callers.iter().find(|c| c.name == caller.name || c.hash == caller.hash) {
                return Err(format!("{:?} and {:?} have one name or one token", other.name, caller.name));
            }
            callers.push(caller);
        }
        Ok(Self { callers })
    }

    /// The caller's name. `authorization` is the header's value.
    pub(super) fn admit(&self, authorization: Option<&[u8]>, service: &str) -> Result<&str, Denied> {
        let token = authorization.and_then(bearer).ok_or(Denied::Missing)?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        // All are compared, each in constant time: how long it takes says nothing about them.
        let found = self.callers.iter().fold(None, |found, caller| {
            if bool::from(caller.hash.ct_eq(&hash)) { Some(caller) } else { found }
        });
        let caller = found.ok_or(Denied::Unknown)?;
        match caller.services.iter().any(|allowed| allowed == service) {
            true => Ok(&caller.name),
            false => Err(Denied::Service { caller: caller.name.clone() }),
        }
    }
}

/// What follows `Bearer` (RFC 6750, 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

impl TryFrom<Block> for Caller {
    type Error = String;

    fn try_from(block: Block) -> Result<Self, String> {
        let Block { name, token, sha256, services } = block;
        let hash = match (token, sha256) {
            (Some(token), None) => hash_of(&token).map_err(|message| format!("token {name:?}: {message}"))?,
            (None, Some(hex)) => from_hex(&hex)
                .ok_or_else(|| format!("token {name:?}: sha256 is not 64 hexadecimal digits"))?,
            _ => return Err(format!("token {name:?} needs one of token and sha256")),
        };
        if name.is_empty() || services.is_empty() {
            return Err(format!("token {name:?} needs a name and at least one of services"));
        }
        match services.iter().find(|service| !SERVICES.contains(&service.as_str())) {
            Some(unknown) => Err(format!(
                "token {name:?}: there is no service {unknown:?}; known: {}",
                SERVICES.join(", ")
            )),
            None => Ok(Self { name, hash, services }),
        }
    }
}

fn hash_of(token: &str) -> Result<[u8; 32], String> {
    if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "a token has at least {MIN_TOKEN_BYTES} visible ASCII characters; make one with: openssl rand -hex 32"
        ));
    }
    Ok(Sha256::digest(token).into())
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.callers.iter().map(|caller| &caller.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NLU: &str = SERVICES[0];
    const HUB: &str = "0123456789abcdef0123456789abcdef";

    fn block(name: &str, token: &str, service: &str) -> String {
        format!("[[token]]\nname = \"{name}\"\n{token}\nservices = [\"{service}\"]\n")
    }

    #[test]
    fn a_token_opens_the_services_of_its_caller() {
        let wall = "fedcba9876543210fedcba9876543210";
        let hashed: String = Sha256::digest(wall).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = block("hub", &format!("token = \"{HUB}\""), NLU)
            + &block("wall", &format!("sha256 = \"{hashed}\""), SERVICES[1]);
        let tokens = Tokens::parse(&text).unwrap();
        let admit = |header: &str, service| tokens.admit(Some(header.as_bytes()), service).map(str::to_owned);
        assert_eq!(admit(&format!("Bearer {HUB}"), NLU), Ok("hub".to_owned()));
        assert_eq!(admit(&format!("bearer {HUB}"), NLU), Ok("hub".to_owned()));
        assert_eq!(admit(&format!("Bearer {wall}"), SERVICES[1]), Ok("wall".to_owned()));
        assert_eq!(admit(&format!("Bearer {wall}"), NLU), Err(Denied::Service { caller: "wall".to_owned() }));
        assert_eq!(admit(&format!("Bearer {HUB}0"), NLU), Err(Denied::Unknown));
        assert_eq!(admit(&format!("Bearer {hashed}"), NLU), Err(Denied::Unknown), "a hash is no token");
        assert_eq!(admit("Bearer ", NLU), Err(Denied::Unknown));
        assert_eq!(admit(&format!("Basic {HUB}"), NLU), Err(Denied::Missing));
        assert_eq!(tokens.admit(None, NLU), Err(Denied::Missing));
        assert!(!format!("{tokens:?}").contains(HUB));
    }

    #[test]
    fn a_bad_file_is_told_without_its_tokens() {
        let good = format!("token = \"{HUB}\"");
        for (text, part) in [
            (String::new(), "nobody"),
            (block("hub", "token = \"short\"", NLU), "openssl rand"),
            (block("hub", "sha256 = \"short\"", NLU), "64"),
            (block("hub", "", NLU), "one of token and sha256"),
            (block("hub", &good, "intentd.v1.Nul"), "intentd.v1.Nul"),
            (block("", &good, NLU), "name"),
            (block("a", &good, NLU) + &block("b", &good, NLU), "one token"),
            (format!("# me\n[[token]]\nname = {HUB}\n"), "line 3"),
            (format!("[[token]]\n{HUB} = 1\n"), "line"),
            (format!("[[token]]\nservices = \"{HUB}\"\n"), "line"),
        ] {
            let error = Tokens::parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains(HUB), "{error}");
        }
    }
}
