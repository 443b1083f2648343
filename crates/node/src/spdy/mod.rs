//! SPDY/3.1 as kubectl and client libraries speak it to a node: many streams over one upgraded connection, each opened by the
//! client with headers that say what it is for.
//!
//! Only what the Kubernetes clients use: the client opens streams, the server answers, both move data and close their halves.
//! As in their implementation (moby/spdystream) there is no flow control by windows: TCP slows the sender of a stream that is
//! not read, and with it the others of the connection.
//!
//! Source: the SPDY Protocol 3.1 draft.

pub mod command;
mod frame;
mod headers;
mod session;
mod upgrade;

pub use session::{Stream, accept};
pub use upgrade::{negotiate, tunnel, upgrade};
