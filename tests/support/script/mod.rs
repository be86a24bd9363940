//! The script language: packetdrill's notation, one peer ("puppet") of raw segments against one stack.
//!
//! A script is a list of lines; `tests/scripts/README.md` describes every one. [`parse`] turns a file into steps,
//! [`run`] plays them on a [`backend::Backend`].

pub mod backend;
pub mod parse;
pub mod run;
pub mod segment;
pub mod usernet_backend;
