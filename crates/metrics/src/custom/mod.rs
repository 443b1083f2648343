//! Metrics that pods expose themselves: scraped, kept for a moment, answered as custom.metrics.k8s.io and
//! external.metrics.k8s.io.
//!
//! A pod with the annotation `prometheus.io/scrape: "true"` is asked each second ([`target`], [`fetch`]); its page is read within
//! bounds ([`page`], [`limits`]); the last ten seconds of every series are kept ([`series`], [`points`]). A metric's name says
//! what is computed from them ([`names`], [`query`], [`quantile`]); what is answered, and of which object, says [`api`].
//!
//! Ten seconds: long enough that requests which come by chance do not move a rate by more than the HPA's tolerance, short
//! enough that a load that doubles leaves the tolerance with its second value.

mod answers;
pub mod api;
mod dropped;
mod fetch;
mod health;
mod key;
mod kinds;
mod limits;
mod names;
pub mod objects;
mod page;
mod points;
mod quantile;
mod query;
mod redirect;
pub mod scraper;
mod series;
pub mod services;
mod target;
mod tls;

pub use limits::Limits;
pub use page::read_page;
