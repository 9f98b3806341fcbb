//! A bundle on disk: nothing of it reaches a parser before its signature (where the site asks
//! for one), size and checksum are verified.

mod calibration;
mod labels;
mod manifest;
mod trust;
mod vectors;
mod verify;

pub use calibration::Thresholds;
pub(crate) use calibration::{AnswerCalibration, Calibration, IntentCalibration, TagsCalibration};
pub use labels::{Labels, TokenTypes};
pub(crate) use labels::{Tag, Tags};
pub(crate) use manifest::task_name;
pub use manifest::{FileEntry, Manifest};
pub use trust::{NoVersion, Trust, TrustedKey, Version};
pub(crate) use vectors::{QuestionVector, TextVector, Vector, VectorSpan};
pub(crate) use verify::{Verified, verify};
