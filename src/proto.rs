//! The messages and the service of `proto/intentd/v1`, generated at build time. Only [`crate::convert`] and the
//! gRPC door know them beside the vocabulary of `intentd_core`.

include!(concat!(env!("OUT_DIR"), "/intentd.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/intentd.v1.serde.rs"));

/// The contract itself, encoded, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
