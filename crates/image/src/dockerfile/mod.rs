//! The Dockerfile language: what is written, before anything is done about it.

pub mod ignore;
pub(crate) mod lines;
pub(crate) mod parse;
pub(crate) mod step;
pub(crate) mod words;
