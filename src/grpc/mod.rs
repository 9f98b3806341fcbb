//! The gRPC door. It listens, limits, and hands each request to [`crate::inference`]; it decides nothing about
//! utterances itself.
//!
//! - `server`: puts the services and their limits together, and stops in order.
//! - `accept`: connections, bounded before a byte of theirs is read as HTTP/2. `places`: how many, in all and by address.
//! - `connection`: cuts off who is silent, takes nothing or floods. `frames`: what counts as a flood.
//! - `access`: the certificates and tokens in force. `guard`: no call without a token that allows it. `tokens`: the file.
//! - `nlu`: the service of the contract. `translate`: its call Translate. `exchange`: many requests over one stream.
//!   `outgoing`: a bounded stream of answers. `call`: what is counted.
//! - `deadline`: the client's deadline. `health`: `grpc.health.v1`.

mod accept;
mod access;
mod call;
mod connection;
mod deadline;
mod exchange;
mod frames;
mod guard;
mod health;
mod nlu;
mod outgoing;
mod places;
mod server;
mod tokens;
mod translate;

pub use access::Access;
pub use server::serve;
