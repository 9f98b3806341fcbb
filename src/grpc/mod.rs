//! The gRPC door. It listens, limits, and hands each request to [`crate::inference`]; it decides nothing about
//! utterances itself.
//!
//! - `server`: puts the services and their limits together, and stops in order.
//! - `accept`: connections, counted and bounded before a byte of theirs is read as HTTP/2.
//! - `nlu`: the service of the contract. `outgoing`: a bounded stream of answers. `call`: what is counted.
//! - `deadline`: the client's deadline. `health`: `grpc.health.v1`.

mod accept;
mod call;
mod deadline;
mod health;
mod nlu;
mod outgoing;
mod server;

pub use server::serve;
