//! The Dockerfile language: what is written, before anything is done about it.

mod heredoc;
pub mod ignore;
pub(crate) mod lines;
pub(crate) mod parse;
mod pattern;
pub(crate) mod step;
pub(crate) mod words;
