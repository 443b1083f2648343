//! The cluster's DNS: answers for services ([`zone`]), forwards everything else ([`forward`]), on the bridge's address
//! only ([`server`]).

mod answer;
mod forward;
mod server;
mod zone;

pub(crate) use forward::{Forwarder, resolvers, search_domains};
pub(crate) use server::Server;
pub(crate) use zone::{SharedZone, Zone};
