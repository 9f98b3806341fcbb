//! The walls of the house: who may import what, how long a file may be, and that what is documented exists.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file above this is split by meaning.
const MAX_LINES: usize = 400;

fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&Path::new(ROOT).join(folder), &mut files);
    }
    assert!(!files.is_empty());
    files
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path.strip_prefix(ROOT).unwrap().to_owned(), text));
        }
    }
}

/// Lines of code that mention `word` outside `allowed`.
fn trespassers(files: &[(PathBuf, String)], word: &str, allowed: &[&str]) -> Vec<String> {
    let outside = |path: &Path| !allowed.iter().any(|place| path.starts_with(place));
    let lines = files.iter().filter(|(path, _)| outside(path)).flat_map(|(path, text)| {
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        code.filter(|(_, line)| line.contains(word))
            .map(|(n, line)| format!("{}:{}: {line}", path.display(), n + 1))
    });
    lines.collect()
}

#[test]
fn libraries_have_one_user() {
    let files = sources(&["src", "crates"]);
    let walls: [(&str, &[&str]); 7] = [
        ("rumqttc::", &["src/mqtt/link", "src/mqtt/link.rs", "src/cli/demo"]),
        ("rumqttd::", &["src/mqtt/embedded.rs"]),
        ("config::Config::builder", &["src/config"]),
        (
            "tract_onnx",
            &[
                "crates/engine/src/model",
                "crates/engine/src/model.rs",
                "crates/engine/src/ops",
                "crates/engine/src/ops.rs",
                // Makes graphs that no committed bundle has.
                "crates/engine/tests/engine/made_up.rs",
            ],
        ),
        ("tokenizers::", &["crates/engine/src/tokenizer.rs", "crates/engine/src/tokenizer"]),
        (" rustls::", &["src/tls"]),
        ("sd_notify", &["src/health.rs"]),
    ];
    for (library, allowed) in walls {
        assert_eq!(trespassers(&files, library, allowed), [""; 0], "{library} is used outside {allowed:?}");
    }
}

#[test]
fn unsafe_code_lives_in_kernels_alone() {
    let files = sources(&["src", "crates/core", "crates/engine"]);
    assert_eq!(trespassers(&files, "unsafe ", &[]), [""; 0]);
    for root in ["src/lib.rs", "src/main.rs", "crates/core/src/lib.rs", "crates/engine/src/lib.rs"] {
        let text = fs::read_to_string(Path::new(ROOT).join(root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root}");
    }
}

#[test]
fn core_depends_on_nothing_and_kernels_neither() {
    for name in ["core", "kernels"] {
        let manifest =
            fs::read_to_string(Path::new(ROOT).join("crates").join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("\n[dependencies]"), "{name} has dependencies");
    }
}

#[test]
fn files_stay_short() {
    let files = sources(&["src", "crates", "tests"]);
    let long: Vec<_> =
        files.iter().filter(|(_, text)| text.lines().count() > MAX_LINES).map(|(path, _)| path).collect();
    assert!(long.is_empty(), "split by meaning: {long:?}");
}

#[test]
fn every_room_says_what_it_is() {
    for (path, text) in sources(&["src", "crates/core/src", "crates/engine/src", "crates/kernels/src"]) {
        let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(is_tests || text.starts_with("//!"), "{} has no head", path.display());
    }
}

#[test]
fn the_readme_names_only_commands_that_exist() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for script in ["scripts/test", "scripts/install"] {
        assert!(readme.contains(script) && Path::new(ROOT).join(script).is_file(), "{script}");
    }
    assert!(readme.contains("cargo run --release -- demo"));
}

/// Older ones answer some floods of frames without end; a lock file must not fall back behind them.
#[test]
fn http2_is_new_enough_to_bear_floods() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    let version = lock.split("name = \"h2\"\nversion = \"").nth(1).unwrap().split('"').next().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    assert!(numbers >= vec![0, 4, 20], "h2 {version}: `cargo update -p h2`, to 0.4.20 at least");
}
