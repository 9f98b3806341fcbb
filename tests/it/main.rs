//! Tests of the real daemon against real peers; one binary, because each test binary links the whole stack again.

/// The commands of the binary: output and exit codes.
mod cli;
/// Utterances over gRPC: answers, limits, deadlines, overload, drain.
mod grpc;
/// The daemon, mosquitto, a device and a recording proxy to test with.
mod harness;
/// Start, stop, and what stops the start.
mod lifecycle;
/// Utterances over MQTT: routes, order, faults, dead letters.
mod mqtt;
/// The walls of the house.
mod tidy;
