//! What the kernel says of its connections in `/proc/net/tcp` and `/proc/net/tcp6`.

use std::fs;

/// One line: local port, peer's port, state.
type Entry = (u16, u16, u8);

fn entries() -> Result<Vec<Entry>, String> {
    let mut out = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        out.extend(text.lines().skip(1).filter_map(entry));
    }
    Ok(out)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(words.next()?.rsplit_once(':')?.1, 16).ok();
    let (local, peer) = (port()?, port()?);
    Some((local, peer, u8::from_str_radix(words.next()?, 16).ok()?))
}

pub const SYN_SENT: u8 = 2;
pub const CLOSED: u8 = 7;
const SYN_RECEIVED: u8 = 3;
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

/// The state of a connection.
pub fn state(local: u16, peer: u16) -> Result<&'static str, String> {
    let found = entries()?.into_iter().find(|entry| entry.0 == local && entry.1 == peer);
    Ok(state_name(found.map_or(CLOSED, |entry| entry.2)))
}

/// The kernel's number of a state in the RFC's words.
pub fn state_name(state: u8) -> &'static str {
    match state {
        1 => "ESTABLISHED",
        SYN_SENT => "SYN-SENT",
        SYN_RECEIVED | 12 => "SYN-RECEIVED",
        4 => "FIN-WAIT-1",
        5 => "FIN-WAIT-2",
        TIME_WAIT => "TIME-WAIT",
        CLOSED => "CLOSED",
        8 => "CLOSE-WAIT",
        9 => "LAST-ACK",
        LISTEN => "LISTEN",
        11 => "CLOSING",
        _ => "?",
    }
}

/// How many of the connections that are `ours` (by ports) are in `phase`.
pub fn count(phase: &str, ours: impl Fn(u16, u16) -> bool) -> Result<usize, String> {
    let counts = |state: u8| match phase {
        "half_open" => state == SYN_RECEIVED || state == 12,
        "time_wait" => state == TIME_WAIT,
        _ => ![SYN_RECEIVED, 12, TIME_WAIT, CLOSED, LISTEN].contains(&state),
    };
    Ok(entries()?.into_iter().filter(|&(local, peer, state)| ours(local, peer) && counts(state)).count())
}
