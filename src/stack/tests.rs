//! Two engines wired back to back under a virtual clock, and single engines fed with hand-made segments.

mod hostile;
mod landing;
mod link;
mod local;
mod memory;
mod net;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use net::{Net, Stream, config};

use super::*;
use crate::config::SocketOptions;
use crate::pipe::TryError;
use crate::stats::DropReason;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("literal address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("literal address")
}
