//! Tests of the real daemon against real peers; one binary, because each test binary links the whole stack again.
//!
//! `#[cfg(test)]` tells clippy that all of it is test code, helpers too: they may unwrap.

/// The commands of the binary: output and exit codes.
#[cfg(test)]
mod cli;
/// What both doors promise together: the same answers, and a stop that breaks nothing.
#[cfg(test)]
mod doors;
/// Random bytes against everything that reads bytes from outside.
#[cfg(test)]
mod fuzz;
/// Utterances over gRPC: answers, limits, deadlines, overload, drain.
#[cfg(test)]
mod grpc;
/// The daemon, mosquitto, a device, a recording proxy and a CA to test with.
#[cfg(test)]
mod harness;
/// A host with a full disk, a wrong clock or few file descriptors.
#[cfg(test)]
mod host;
/// Start, stop, and what stops the start.
#[cfg(test)]
mod lifecycle;
/// A bundle with every task, made of parts of a committed one.
#[cfg(test)]
#[path = "../../crates/engine/tests/engine/made_up.rs"]
mod made_up;
/// Which bundle serves: signatures, and the one that stands in.
#[cfg(test)]
mod model;
/// Utterances over MQTT: routes, order, faults, dead letters.
#[cfg(test)]
mod mqtt;
/// Names of areas and devices, given by the site.
#[cfg(test)]
mod names;
/// The fault table at length, with its figures.
#[cfg(test)]
mod soak;
/// Every task through both doors, and several bundles side by side.
#[cfg(test)]
mod tasks;
/// The walls of the house.
#[cfg(test)]
mod tidy;
/// Locked doors: TLS, client certificates, tokens, secrets.
#[cfg(test)]
mod tls;
/// Loops that hang: the service manager hears no more that all is well.
#[cfg(test)]
mod watchdog;
