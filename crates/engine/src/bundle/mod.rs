//! A bundle on disk: nothing of it reaches a parser before its size and checksum are verified.

mod content;
mod manifest;
mod verify;

pub(crate) use content::{Calibration, IntentCalibration, SelfTestLine, Tag};
pub use content::{Labels, Thresholds};
pub(crate) use manifest::task_name;
pub use manifest::{FileEntry, Manifest};
pub(crate) use verify::{Verified, verify};
