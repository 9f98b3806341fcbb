//! The gRPC door. It listens, limits, and hands each request to [`crate::inference`]; it decides nothing about
//! utterances itself.
//!
//! - `server`: puts the services and their limits together, and stops in order.
//! - `accept`: connections, bounded before a byte of theirs is read as HTTP/2. `places`: how many, in all and by address.
//! - `access`: the certificates and tokens in force. `guard`: no call without a token that allows it. `tokens`: the file.
//! - `nlu`: the service of the contract. `outgoing`: a bounded stream of answers. `call`: what is counted.
//! - `deadline`: the client's deadline. `health`: `grpc.health.v1`.

mod accept;
mod access;
mod call;
mod deadline;
mod guard;
mod health;
mod nlu;
mod outgoing;
mod places;
mod server;
mod tokens;

pub use access::Access;
pub use server::serve;
