//! A bundle on disk: nothing of it reaches a parser before its signature (where the site asks
//! for one), size and checksum are verified.

mod content;
mod manifest;
mod trust;
mod verify;

pub(crate) use content::{Calibration, IntentCalibration, SelfTestLine, Tag};
pub use content::{Labels, Thresholds};
pub(crate) use manifest::task_name;
pub use manifest::{FileEntry, Manifest};
pub use trust::{NoVersion, Trust, TrustedKey, Version};
pub(crate) use verify::{Verified, verify};
