use std::fs;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use intentd_engine::{Engine, OpenError, Thresholds, Trust};
use minisign::KeyPair;

use crate::damage::Copy;

const MANIFEST: &str = "manifest.toml";
const SIGNATURE: &str = "manifest.toml.minisig";

/// Damage in the large files is looked for at every this many bytes, and in all others at every byte.
const STRIDE: usize = 4096;

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/home-en-tiny")
}

/// A signed copy of the smallest bundle, and a site that trusts its signer.
struct Signed {
    copy: Copy,
    keys: KeyPair,
    trust: Trust,
}

impl Signed {
    fn new() -> Self {
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let trust = Trust { keys: vec![keys.pk.to_base64().parse().unwrap()], minimum_version: None };
        let signed = Self { copy: Copy::of(tiny()), keys, trust };
        signed.sign(&signed.keys);
        signed
    }

    /// As `minisign -S -m manifest.toml` does.
    fn sign(&self, keys: &KeyPair) {
        let manifest = fs::read(self.copy.path(MANIFEST)).unwrap();
        let signature =
            minisign::sign(None, &keys.sk, Cursor::new(manifest), Some("of a test"), None).unwrap();
        fs::write(self.copy.path(SIGNATURE), signature.into_string()).unwrap();
    }

    fn open(&self) -> Result<Engine, OpenError> {
        Engine::open(self.copy.folder.path(), &self.trust, Thresholds::default())
    }

    /// Opens it, and fails unless it is refused before the first parser: every error of a parser, the manifest's among
    /// them, is another variant.
    #[track_caller]
    fn is_refused_unparsed(&self, what: &str) {
        let error = self.open().err().unwrap_or_else(|| panic!("{what}: opened"));
        let unparsed = matches!(
            error,
            OpenError::Unsigned { .. }
                | OpenError::Signature { .. }
                | OpenError::SizeMismatch { .. }
                | OpenError::ChecksumMismatch { .. }
        );
        assert!(unparsed, "{what}: {error}");
    }

    /// Flips one bit of one byte in place, and back.
    fn flip(&self, file: &str, at: usize, refused: impl FnOnce(&Self)) {
        let handle = fs::File::options().read(true).write(true).open(self.copy.path(file)).unwrap();
        let mut byte = [0];
        handle.read_exact_at(&mut byte, at as u64).unwrap();
        handle.write_all_at(&[byte[0] ^ 1 << (at % 8)], at as u64).unwrap();
        refused(self);
        handle.write_all_at(&byte, at as u64).unwrap();
    }
}

#[test]
fn a_signed_bundle_opens_and_says_what_it_says_unsigned() {
    let signed = Signed::new();
    let engine = signed.open().unwrap();
    let unsigned = Engine::open(&tiny(), &Trust::default(), Thresholds::default()).unwrap();
    assert_eq!(engine.model(), unsigned.model());
}

#[test]
fn every_flipped_byte_is_refused_unparsed() {
    let signed = Signed::new();
    let (mut flips, mut expected) = (0, 0);
    // The first line is minisign's "untrusted comment": no program reads it, and no signature covers it.
    let comment = fs::read(signed.copy.path(SIGNATURE)).unwrap().iter().position(|&b| b == b'\n').unwrap();
    let mut files = signed.copy.listed();
    files.extend([MANIFEST.to_owned(), SIGNATURE.to_owned()]);
    for file in files {
        let bytes = fs::metadata(signed.copy.path(&file)).unwrap().len() as usize;
        let (from, step) = match file.as_str() {
            MANIFEST => (0, 1),
            SIGNATURE => (comment, 1),
            _ => (0, STRIDE),
        };
        for at in (from..bytes).step_by(step).chain([bytes - 1]) {
            signed.flip(&file, at, |signed| signed.is_refused_unparsed(&format!("byte {at} of {file}")));
            flips += 1;
        }
        expected += (bytes - from) / step;
    }
    assert!(flips >= expected && expected > 1000, "{flips} of {expected}");
    signed.open().unwrap();
}

#[test]
fn every_cut_is_refused_unparsed() {
    let signed = Signed::new();
    for file in [MANIFEST, SIGNATURE] {
        let whole = fs::read(signed.copy.path(file)).unwrap();
        // The end of the signature's last line says nothing.
        let meaning = whole.trim_ascii_end().len();
        for length in 0..meaning {
            fs::write(signed.copy.path(file), &whole[..length]).unwrap();
            signed.is_refused_unparsed(&format!("{file} cut to {length} bytes"));
        }
        fs::write(signed.copy.path(file), whole).unwrap();
    }
    for file in signed.copy.listed() {
        let whole = fs::read(signed.copy.path(&file)).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 8) {
            fs::write(signed.copy.path(&file), &whole[..length]).unwrap();
            signed.is_refused_unparsed(&format!("{file} cut to {length} bytes"));
        }
        fs::write(signed.copy.path(&file), whole).unwrap();
    }
    signed.open().unwrap();
}

#[test]
fn only_a_trusted_key_vouches() {
    let mut signed = Signed::new();
    let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
    signed.sign(&stranger);
    signed.is_refused_unparsed("a stranger's signature");

    // Signed by the right key, but another text: an older manifest's signature, say.
    signed.sign(&signed.keys);
    signed.copy.edit_text(MANIFEST, "version = \"0", "version = \"1");
    signed.is_refused_unparsed("the signature of another manifest");

    // It is enough that one of several keys signed.
    signed.sign(&stranger);
    signed.trust.keys.push(KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64().parse().unwrap());
    signed.is_refused_unparsed("none of two keys");
    signed.trust.keys.push(stranger.pk.to_base64().parse().unwrap());
    signed.open().unwrap();

    fs::remove_file(signed.copy.path(SIGNATURE)).unwrap();
    assert!(matches!(signed.open(), Err(OpenError::Unsigned { .. })));
    fs::write(signed.copy.path(SIGNATURE), vec![b'x'; 5000]).unwrap();
    assert!(matches!(signed.open(), Err(OpenError::TooLarge { limit: 4096, .. })));
    // Without trusted keys nobody asks.
    signed.trust.keys.clear();
    signed.open().unwrap();
}

#[test]
fn a_version_below_the_floor_is_refused_unread() {
    let mut signed = Signed::new();
    for floor in ["0.2.0", "0.1.9", "0.0.0"] {
        signed.trust.minimum_version = Some(floor.parse().unwrap());
        signed.open().unwrap();
    }
    // Nothing but manifest and signature is there: had anything else been opened, the error would name it.
    signed.copy.listed().iter().for_each(|file| fs::remove_file(signed.copy.path(file)).unwrap());
    for floor in ["0.2.1", "0.3", "1.0.0"] {
        signed.trust.minimum_version = Some(floor.parse().unwrap());
        let error = signed.open().err().unwrap();
        assert!(matches!(&error, OpenError::TooOld { found, .. } if found == "0.2.0"), "{error}");
    }
    // A version that is none can't be compared.
    signed.copy.edit_text(MANIFEST, "version = \"0.2.0\"", "version = \"spring\"");
    signed.sign(&signed.keys);
    assert!(matches!(signed.open(), Err(OpenError::TooOld { .. })));
}

#[test]
fn sizes_are_refused_before_anything_is_read() {
    let announced = |edit: &dyn Fn(&Copy)| {
        let copy = Copy::of(tiny());
        edit(&copy);
        Engine::open(copy.folder.path(), &Trust::default(), Thresholds::default()).err().unwrap()
    };
    // One file over its limit, all together over theirs: neither has to be there.
    let one = announced(&|copy| copy.edit_text(MANIFEST, "bytes = 63126", "bytes = 99999999999999"));
    assert!(matches!(one, OpenError::TooLarge { bytes: 99_999_999_999_999, .. }), "{one}");
    let all = announced(&|copy| {
        copy.edit_text(MANIFEST, "bytes = 1761799", "bytes = 200000000");
        copy.edit_text(MANIFEST, "bytes = 14820", "bytes = 200000000");
    });
    assert!(matches!(all, OpenError::TooLarge { bytes: 400_000_000.., .. }), "{all}");
    // A file that is larger than announced is not read to its end; a hole of 8 GB costs nothing.
    let grown = announced(&|copy| {
        fs::File::options().write(true).open(copy.path("encoder.onnx")).unwrap().set_len(8 << 30).unwrap();
    });
    assert!(matches!(grown, OpenError::SizeMismatch { found: 0x2_0000_0000, .. }), "{grown}");
    // A pipe would be waited for, and a device has no end.
    let pipe = announced(&|copy| {
        fs::remove_file(copy.path("labels.json")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(copy.path("labels.json")).status().unwrap();
        assert!(made.success());
    });
    assert!(pipe.to_string().contains("is not a file"), "{pipe}");
}
