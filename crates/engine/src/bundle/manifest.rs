//! `manifest.toml`: what the bundle is, and the size and checksum of everything in it.

use std::path::{Component, Path};

use intentd_core::Task;
use serde::Deserialize;

use super::trust::Version;
use crate::OpenError;

/// The layout of a bundle that this version reads.
pub(crate) const SCHEMA: u32 = 1;

/// Most files of one bundle: a real one has ten.
const MAX_FILES: usize = 64;

/// Longest sequence that any encoder of this kind is made for; it bounds the work of one utterance.
const MAX_TOKENS: usize = 512;

/// What a bundle says about itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the bundle.
    pub schema: u32,
    /// Name, such as `home-en`.
    pub name: String,
    /// Version of the bundle.
    pub version: String,
    /// BCP 47 tags; the first is the default.
    pub languages: Vec<String>,
    /// SPDX expression.
    pub licence: String,
    /// What it can do, by name.
    pub tasks: Vec<String>,
    /// Oldest intentd that can run it.
    pub minimum_intentd: String,
    /// Class of size, such as `small`.
    pub size_class: String,
    /// Most wordpieces of one utterance, with the two that mark begin and end.
    pub max_tokens: usize,
    /// Everything in the bundle but the manifest itself.
    pub files: Vec<FileEntry>,
}

/// One file of a bundle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path inside the bundle, with `/`.
    pub path: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

impl Manifest {
    /// Reads a manifest and refuses what this version cannot run.
    ///
    /// # Errors
    /// What is wrong with it; `path` names it.
    pub fn read(path: &Path, text: &str) -> Result<Self, OpenError> {
        let wrong = |message: String| OpenError::Manifest { path: path.to_owned(), message };
        // The schema alone first: a newer layout may have keys that this version would call mistakes.
        let header: Header = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if header.schema != SCHEMA {
            return Err(OpenError::UnknownSchema {
                path: path.to_owned(),
                found: header.schema,
                known: SCHEMA,
            });
        }
        check_version(path, &header.minimum_intentd)?;
        let manifest: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        manifest.check(path)?;
        Ok(manifest)
    }

    /// What the bundle can do.
    pub fn supported_tasks(&self) -> Vec<Task> {
        self.tasks.iter().filter_map(|name| task_named(name)).collect()
    }

    /// Whether it can do this.
    pub(crate) fn has(&self, task: Task) -> bool {
        self.tasks.iter().any(|name| task_named(name) == Some(task))
    }

    fn check(&self, path: &Path) -> Result<(), OpenError> {
        let wrong = |message: String| OpenError::Manifest { path: path.to_owned(), message };
        if self.name.is_empty() || self.version.is_empty() {
            return Err(wrong("name and version must not be empty".to_owned()));
        }
        if !(3..=MAX_TOKENS).contains(&self.max_tokens) {
            return Err(wrong(format!("max_tokens is {}; it must be 3 to {MAX_TOKENS}", self.max_tokens)));
        }
        if self.files.len() > MAX_FILES {
            return Err(wrong(format!("lists {} files; the limit is {MAX_FILES}", self.files.len())));
        }
        for (index, file) in self.files.iter().enumerate() {
            check_inside(path, &file.path)?;
            if self.files[..index].iter().any(|other| other.path == file.path) {
                return Err(wrong(format!("lists {} twice", file.path)));
            }
            if file.sha256.len() != 64 || !file.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong(format!("sha256 of {} is not 64 hexadecimal digits", file.path)));
            }
        }
        self.check_tasks(path)
    }

    fn check_tasks(&self, path: &Path) -> Result<(), OpenError> {
        let unknown: Vec<String> =
            self.tasks.iter().filter(|name| task_named(name).is_none()).cloned().collect();
        if !unknown.is_empty() {
            let known = TASKS.iter().map(|(name, _)| *name).collect();
            return Err(OpenError::UnsupportedTasks { path: path.to_owned(), unknown, known });
        }
        if self.tasks.is_empty() {
            return Err(OpenError::Manifest {
                path: path.to_owned(),
                message: "lists no tasks; a bundle must be able to do something".to_owned(),
            });
        }
        Ok(())
    }
}

/// Name of a task in a manifest and in messages.
pub(crate) fn task_name(task: Task) -> &'static str {
    TASKS.iter().find(|(_, known)| *known == task).map_or("", |(name, _)| *name)
}

#[derive(Deserialize)]
struct Header {
    schema: u32,
    minimum_intentd: String,
}

/// The tasks that this version has code for.
const TASKS: [(&str, Task); 6] = [
    ("intent", Task::Intent),
    ("slots", Task::Slots),
    ("sentiment", Task::Sentiment),
    ("entities", Task::Entities),
    ("embedding", Task::Embedding),
    ("qa", Task::Answers),
];

fn task_named(name: &str) -> Option<Task> {
    TASKS.iter().find(|(known, _)| *known == name).map(|(_, task)| *task)
}

fn check_version(path: &Path, minimum: &str) -> Result<(), OpenError> {
    let running = env!("CARGO_PKG_VERSION");
    let needed: Version = minimum.parse().map_err(|error| OpenError::Manifest {
        path: path.to_owned(),
        message: format!("minimum_intentd {minimum:?} is {error}"),
    })?;
    if running.parse().is_ok_and(|running: Version| running < needed) {
        return Err(OpenError::NeedsNewer { path: path.to_owned(), minimum: minimum.to_owned(), running });
    }
    Ok(())
}

fn check_inside(manifest: &Path, listed: &str) -> Result<(), OpenError> {
    let plain = Path::new(listed).components().all(|part| matches!(part, Component::Normal(_)));
    // A backslash is a separator on other systems; a bundle that is safe here should be safe everywhere.
    if listed.is_empty() || !plain || listed.contains(['\\', '\0']) {
        return Err(OpenError::PathOutside { path: manifest.to_owned(), listed: listed.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(edit: impl Fn(String) -> String) -> Result<Manifest, OpenError> {
        let text = format!(
            "schema = 1\nname = \"n\"\nversion = \"1.0.0\"\nlanguages = [\"en\"]\nlicence = \"MIT\"\n\
             tasks = [\"intent\"]\nminimum_intentd = \"0.1.0\"\nsize_class = \"small\"\nmax_tokens = 64\n\
             [[files]]\npath = \"encoder.onnx\"\nbytes = 3\nsha256 = \"{}\"\n",
            "ab".repeat(32)
        );
        Manifest::read(Path::new("manifest.toml"), &edit(text))
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = manifest(|text| text).unwrap();
        assert_eq!(manifest.supported_tasks(), [Task::Intent]);
        assert_eq!(manifest.files[0].bytes, 3);
    }

    #[test]
    fn a_newer_schema_is_named_before_its_new_keys() {
        let error = manifest(|text| text.replace("schema = 1", "schema = 2\nnovelty = true")).unwrap_err();
        assert!(matches!(error, OpenError::UnknownSchema { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_newer_intentd_is_asked_for() {
        for minimum in ["9.0.0", "0.1.1", "0.2"] {
            let error =
                manifest(|text| text.replace("intentd = \"0.1.0\"", &format!("intentd = \"{minimum}\"")))
                    .unwrap_err();
            assert!(matches!(&error, OpenError::NeedsNewer { minimum: m, .. } if m == minimum), "{error}");
        }
        assert!(manifest(|text| text.replace("\"0.1.0\"", "\"0.0.9\"")).is_ok());
        assert!(manifest(|text| text.replace("\"0.1.0\"", "\"soon\"")).is_err());
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["/etc/passwd", "../encoder.onnx", "heads/../../x", "", ".", "a\\\\b"] {
            let error = manifest(|text| text.replace("encoder.onnx", path)).unwrap_err();
            assert!(matches!(error, OpenError::PathOutside { .. }), "{path:?}: {error}");
        }
    }

    #[test]
    fn tasks_without_code_are_named() {
        let error = manifest(|text| text.replace("[\"intent\"]", "[\"intent\", \"telepathy\"]")).unwrap_err();
        assert!(
            error.to_string().contains("telepathy") && error.to_string().contains("intent, slots"),
            "{error}"
        );
        assert!(manifest(|text| text.replace("[\"intent\"]", "[]")).is_err());
    }
}
