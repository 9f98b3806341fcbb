use std::fs;
use std::path::{Path, PathBuf};

use intentd_engine::{Engine, OpenError, Thresholds, Trust};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bundle;

/// A copy of a bundle that a test may break.
pub(crate) struct Copy {
    pub(crate) folder: TempDir,
    original: PathBuf,
}

impl Copy {
    fn new() -> Self {
        Self::of(bundle())
    }

    pub(crate) fn of(original: PathBuf) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("heads")).unwrap();
        let copy = Self { folder, original };
        for file in copy.listed().into_iter().chain(["manifest.toml".to_owned()]) {
            fs::copy(copy.original.join(&file), copy.path(&file)).unwrap();
        }
        copy
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The files of the committed manifest.
    pub(crate) fn listed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.original.join("manifest.toml")).unwrap();
        let manifest: toml::Value = toml::from_str(&text).unwrap();
        let files = manifest["files"].as_array().unwrap();
        files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        edit(&mut bytes);
        fs::write(self.path(file), bytes).unwrap();
    }

    pub(crate) fn edit_text(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    /// Makes the manifest say what is there: the file was made wrongly, not damaged.
    pub(crate) fn vouch_for(&self, file: &str) {
        let bytes = fs::read(self.path(file)).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = fs::read_to_string(self.path("manifest.toml")).unwrap();
        let mut manifest: toml::Table = toml::from_str(&text).unwrap();
        for entry in manifest["files"].as_array_mut().unwrap() {
            if entry["path"].as_str() == Some(file) {
                entry["sha256"] = digest.clone().into();
                entry["bytes"] = i64::try_from(bytes.len()).unwrap().into();
            }
        }
        fs::write(self.path("manifest.toml"), manifest.to_string()).unwrap();
    }

    fn error(&self) -> OpenError {
        Engine::open(self.folder.path(), &Trust::default(), Thresholds::default())
            .err()
            .expect("the bundle must be refused")
    }
}

#[track_caller]
fn names(error: &OpenError, file: &Path) {
    assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
}

#[test]
fn an_untouched_copy_opens() {
    let copy = Copy::new();
    // What the manifest does not list is not looked at.
    fs::write(copy.path("encoder.onnx.orig"), b"whatever").unwrap();
    Engine::open(copy.folder.path(), &Trust::default(), Thresholds::default()).unwrap();
}

#[test]
fn a_flipped_byte_in_any_file_is_found() {
    let copy = Copy::new();
    for file in copy.listed() {
        let middle = fs::metadata(copy.path(&file)).unwrap().len() as usize / 2;
        copy.edit(&file, |bytes| bytes[middle] ^= 1);
        let error = copy.error();
        assert!(matches!(error, OpenError::ChecksumMismatch { .. }), "{file}: {error}");
        names(&error, &copy.path(&file));
        copy.edit(&file, |bytes| bytes[middle] ^= 1);
    }
}

#[test]
fn a_cut_or_longer_or_missing_file_is_found() {
    let copy = Copy::new();
    for file in copy.listed() {
        let whole = fs::read(copy.path(&file)).unwrap();
        copy.edit(&file, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(matches!(copy.error(), OpenError::SizeMismatch { .. }), "{file}");
        fs::write(copy.path(&file), [whole.as_slice(), b"\n"].concat()).unwrap();
        assert!(matches!(copy.error(), OpenError::SizeMismatch { .. }), "{file}");
        fs::remove_file(copy.path(&file)).unwrap();
        let error = copy.error();
        assert!(matches!(error, OpenError::Unreadable { .. }), "{file}: {error}");
        names(&error, &copy.path(&file));
        fs::write(copy.path(&file), whole).unwrap();
    }
    fs::remove_file(copy.path("manifest.toml")).unwrap();
    assert!(matches!(copy.error(), OpenError::Unreadable { .. }));
}

#[test]
fn the_manifest_is_checked_before_the_files() {
    type Expected = fn(&OpenError) -> bool;
    let cases: [(&str, &str, Expected); 5] = [
        ("schema = 1", "schema = 7", |e| matches!(e, OpenError::UnknownSchema { found: 7, .. })),
        ("minimum_intentd = \"0", "minimum_intentd = \"99", |e| matches!(e, OpenError::NeedsNewer { .. })),
        ("\"slots\"]", "\"poetry\"]", |e| matches!(e, OpenError::UnsupportedTasks { .. })),
        ("path = \"encoder.onnx\"", "path = \"../encoder.onnx\"", |e| {
            matches!(e, OpenError::PathOutside { .. })
        }),
        ("name = ", "nickname = ", |e| matches!(e, OpenError::Manifest { .. })),
    ];
    for (from, to, expected) in cases {
        let copy = Copy::new();
        copy.edit_text("manifest.toml", from, to);
        let error = copy.error();
        assert!(expected(&error), "{to}: {error}");
        names(&error, &copy.path("manifest.toml"));
    }
    let copy = Copy::new();
    copy.edit("manifest.toml", |bytes| bytes.truncate(bytes.len() / 2));
    assert!(matches!(copy.error(), OpenError::Manifest { .. }));
}

#[test]
fn a_file_that_the_tasks_need_must_be_listed() {
    for file in ["encoder.onnx", "heads/slots.onnx", "tokenizer.json", "selftest.jsonl"] {
        let copy = Copy::new();
        let text = fs::read_to_string(copy.path("manifest.toml")).unwrap();
        let mut manifest: toml::Table = toml::from_str(&text).unwrap();
        manifest["files"].as_array_mut().unwrap().retain(|entry| entry["path"].as_str() != Some(file));
        fs::write(copy.path("manifest.toml"), manifest.to_string()).unwrap();
        let error = copy.error();
        assert!(matches!(&error, OpenError::Unlisted { listed, .. } if listed == file), "{error}");
    }
}

#[test]
fn files_made_wrongly_are_refused_by_name() {
    for file in ["tokenizer.json", "labels.json", "calibration.json"] {
        for content in ["", "{}", "null", "[[[[", "{\"version\":\"1.0\"}"] {
            let copy = Copy::new();
            fs::write(copy.path(file), content).unwrap();
            copy.vouch_for(file);
            let error = copy.error();
            assert!(matches!(error, OpenError::Content { .. }), "{file}: {error}");
            names(&error, &copy.path(file));
        }
    }
}

#[test]
fn labels_must_be_as_many_as_the_head_has_outputs() {
    let copy = Copy::new();
    let text = fs::read_to_string(copy.path("labels.json")).unwrap();
    let mut labels: serde_json::Value = serde_json::from_str(&text).unwrap();
    labels["tags"].as_array_mut().unwrap().push("B-novelty".into());
    labels.as_object_mut().unwrap().remove("transitions");
    fs::write(copy.path("labels.json"), labels.to_string()).unwrap();
    copy.vouch_for("labels.json");
    let error = copy.error();
    assert!(matches!(error, OpenError::Content { .. }), "{error}");
    assert!(error.to_string().contains("heads/slots.onnx"), "{error}");
}

/// tract panics on some malformed graphs; none of it may leave `open`.
#[test]
fn malformed_graphs_are_errors() {
    let whole = fs::read(bundle().join("heads/intent.onnx")).unwrap();
    let swapped = fs::read(bundle().join("encoder.onnx")).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![vec![], vec![0xff; 100], whole[..whole.len() / 2].to_vec(), swapped];
    for step in 0..20 {
        let mut bytes = whole.clone();
        let at = step * 61 % 1200;
        bytes[at] ^= 0x2a;
        cases.push(bytes);
    }
    let copy = Copy::new();
    for (case, bytes) in cases.into_iter().enumerate() {
        fs::write(copy.path("heads/intent.onnx"), bytes).unwrap();
        copy.vouch_for("heads/intent.onnx");
        // A flipped byte in a name changes nothing; all else is an error that names a file of the bundle.
        match Engine::open(copy.folder.path(), &Trust::default(), Thresholds::default()) {
            Ok(_) => assert!(case >= 4, "case {case} opened"),
            Err(error) => names(&error, copy.folder.path()),
        }
    }
}

#[test]
fn the_self_test_decides() {
    let copy = Copy::new();
    copy.edit_text("selftest.jsonl", "\"input_ids\": [2, ", "\"input_ids\": [2, 5, ");
    copy.vouch_for("selftest.jsonl");
    assert!(matches!(copy.error(), OpenError::SelfTest { line: 1, .. }));

    let copy = Copy::new();
    let text = fs::read_to_string(copy.path("selftest.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    lines[2]["intent_scores"][0] = 0.9.into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(copy.path("selftest.jsonl"), text).unwrap();
    copy.vouch_for("selftest.jsonl");
    let error = copy.error();
    assert!(matches!(error, OpenError::SelfTest { line: 3, .. }), "{error}");
    assert!(error.to_string().contains("0.9"), "{error}");
}
