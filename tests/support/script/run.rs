//! Plays the lines of a case: injects, compares what came out in order, keeps the trace for the message.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::backend::{Backend, Exactness, NOT_ASKED};
use super::parse::{Case, Line, Step};
use super::segment::{Opt, Text, flags_text, option_matches, option_resembles, options_of, options_text};
use crate::support::packet::{self, Seen, SeenTcp, Tcp};
use crate::support::pattern;
use usernet::internals::wire::Flags;

/// How early or late a timed expectation (`+T > …`) may be.
const TOLERANCE: Duration = Duration::from_millis(1);

/// Real clock: a packet that follows at once is there after that long; the kernel answers within the write to the TUN,
/// so this only has to be shorter than a delayed ACK.
const AT_ONCE: Duration = Duration::from_millis(25);
/// Real clock: how long silence is listened to. Nothing is on its way, for the same reason.
const QUIET: Duration = Duration::from_millis(2);
/// Real clock: how much before its time a timer may go off; half the shortest one (the delayed ACK).
const EARLY: Duration = Duration::from_millis(20);

/// Real clock: how much after its time a timer of `delay` may go off (the kernel's timer wheel rounds up by an eighth).
fn late(delay: Duration) -> Duration {
    Duration::from_millis(40) + delay / 8
}

/// The stream the puppet sends, and the stream usernet's user writes.
pub const PUPPET: u8 = 0x55;
pub const USER: u8 = 0xAA;

/// What the puppet knows of one connection.
#[derive(Debug, Default)]
struct Flow {
    /// The puppet's ISN.
    irs: u32,
    /// usernet's ISN, once its SYN was seen; 0 before, so that numbers are absolute.
    iss: Option<u32>,
    /// The first and the last TSval of usernet.
    ts_first: Option<u32>,
    ts_last: u32,
}

struct Pending {
    at: Duration,
    seen: Seen,
    bytes: Vec<u8>,
    text: String,
}

/// Plays one case. The error is the whole message.
pub fn run(case: &Case, backend: &mut dyn Backend) -> Result<(), String> {
    let mut runner =
        Runner { backend, flows: BTreeMap::new(), pending: VecDeque::new(), irs: 5_000, trace: String::new() };
    for line in &case.lines {
        runner.line(line).map_err(|message| runner.report(case, line, &message))?;
    }
    runner
        .collect()
        .and_then(|()| runner.silence())
        .map_err(|message| format!("at the end: {message}\n{}", runner.trace))
}

struct Runner<'a> {
    backend: &'a mut dyn Backend,
    flows: BTreeMap<usize, Flow>,
    pending: VecDeque<Pending>,
    irs: u32,
    trace: String,
}

impl Runner<'_> {
    fn report(&self, case: &Case, line: &Line, message: &str) -> String {
        format!("{} [{}]: {message}\n    {}\ntrace so far:\n{}", line.at, case.name, line.text, self.trace)
    }

    fn flow(&mut self, flow: usize) -> &mut Flow {
        let irs = self.irs;
        self.flows.entry(flow).or_insert_with(|| Flow { irs, ..Flow::default() })
    }

    fn note(&mut self, direction: &str, text: &str) {
        let now = Duration::from_micros(self.backend.now_micros());
        let _ = writeln!(self.trace, "{:12.6} {direction} {text}", now.as_secs_f64());
    }

    /// Takes new output, checks that it is well-formed and that its payload is what the user wrote.
    fn collect(&mut self) -> Result<(), String> {
        for output in self.backend.collect() {
            let seen = packet::see(&output.bytes)?;
            let mut text = String::from("icmp echo-reply");
            if let Seen::Tcp(seg) = &seen {
                text = self.learn(seg)?;
            }
            let at = Duration::from_micros(output.at_micros);
            let _ = writeln!(self.trace, "{:12.6} > {text}", at.as_secs_f64());
            self.pending.push_back(Pending { at, seen, bytes: output.bytes, text });
        }
        Ok(())
    }

    fn learn(&mut self, seg: &SeenTcp) -> Result<String, String> {
        let number = self.flow_of(seg);
        let flow = self.flow(number);
        if seg.flags.contains(Flags::SYN) && flow.iss != Some(seg.seq) {
            flow.iss = Some(seg.seq);
            flow.ts_first = None;
        }
        if let Some(ts) = seg.options.timestamps {
            flow.ts_first.get_or_insert(ts.val);
            flow.ts_last = ts.val;
        }
        let text = flow.describe(seg, number);
        let at = u64::from(seg.seq.wrapping_sub(flow.iss.unwrap_or(0)).wrapping_sub(1));
        let keepalive = seg.payload.len() == 1 && at == u64::from(u32::MAX);
        if let Some(at) = pattern::first_difference(USER, at, &seg.payload).filter(|_| !keepalive) {
            return Err(format!("payload differs from what the user wrote at byte {at}: {text}"));
        }
        Ok(text)
    }

    fn flow_of(&self, seg: &SeenTcp) -> usize {
        let known = (1..=64).find(|&n| self.backend.peer(n) == seg.tuple.local);
        known.unwrap_or(1)
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        if let Some(delay) = line.delay {
            self.backend.advance(delay);
            self.collect()?;
        }
        match &line.step {
            Step::Nothing => {}
            Step::Config(key, value) if key == "irs" => {
                self.irs = value.parse().map_err(|_| "`irs` needs a number")?;
            }
            Step::Config(..) => return Err("configuration comes before the first step".into()),
            Step::Inject(text) => self.inject(line.flow, text)?,
            Step::InjectRaw(bytes) => self.inject_bytes(bytes.clone(), "raw")?,
            Step::InjectEcho(len) => {
                let (src, dst) = (self.backend.peer(line.flow).ip(), self.backend.local(line.flow).ip());
                self.inject_bytes(packet::echo_request(src, dst, *len), &line.text)?;
            }
            Step::InjectIcmp(kind, seq) => {
                let quoted = self.quote(line.flow, *seq);
                let (src, dst) = (self.backend.peer(line.flow).ip(), self.backend.local(line.flow).ip());
                self.inject_bytes(packet::icmp_error(src, dst, *kind, &quoted), &line.text)?;
            }
            Step::Expect(text) => self.expect(line, text)?,
            Step::ExpectEcho(len) => match self.pending.pop_front() {
                Some(Pending { seen: Seen::EchoReply { len: got }, .. }) if got == *len => {}
                other => return Err(format!("expected an echo reply of {len} bytes, got {:?}", other.map(|p| p.text))),
            },
            Step::User(op, expected) => self.user(line, op, expected.as_deref())?,
            Step::Check(words) => self.check(line.flow, words)?,
            // Real clock: what came after the moment the script speaks of is for the next line; this process was late.
            Step::Silence if line.delay.is_some() && self.all_came_later() => {}
            Step::Silence => self.silence()?,
            Step::Drain => {
                self.listen()?;
                self.pending.clear();
            }
            Step::Hold => self.backend.hold(),
            Step::Go => self.backend.release(),
        }
        self.collect()
    }

    fn user(&mut self, line: &Line, op: &[String], expected: Option<&str>) -> Result<(), String> {
        let words: Vec<&str> = op.iter().map(String::as_str).collect();
        let answer = self.backend.user(line.flow, &words)?;
        self.note(" ", &format!("user {} => {answer}", words.join(" ")));
        let expected = expected.map_or_else(|| default_answer(&words), str::to_string);
        if answer == expected { Ok(()) } else { Err(format!("expected `{expected}`, got `{answer}`")) }
    }

    fn check(&mut self, flow: usize, words: &[String]) -> Result<(), String> {
        let (expected, what) = words.split_last().ok_or("nothing to check")?;
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        let answer = self.backend.inspect(flow, &what)?;
        let holds = answer == *expected || answer == NOT_ASKED;
        if holds { Ok(()) } else { Err(format!("expected `{expected}`, got `{answer}`")) }
    }

    /// Real clock: gives what is on its way the time to come.
    fn listen(&mut self) -> Result<(), String> {
        self.backend.wait(QUIET);
        self.collect()
    }

    fn all_came_later(&self) -> bool {
        let now = Duration::from_micros(self.backend.clock_micros());
        self.pending.front().is_some_and(|first| first.at > now)
    }

    fn silence(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            self.listen()?;
        }
        match self.pending.front() {
            None => Ok(()),
            Some(first) => Err(format!("expected silence, got {} packets: {}", self.pending.len(), first.text)),
        }
    }

    fn inject_bytes(&mut self, bytes: Vec<u8>, text: &str) -> Result<(), String> {
        self.note("<", text);
        self.backend.inject(&bytes);
        self.collect()
    }

    /// The packet an ICMP error quotes: a segment of ours at relative `seq`.
    fn quote(&mut self, number: usize, seq: i64) -> Vec<u8> {
        let (local, peer) = (self.backend.local(number), self.backend.peer(number));
        let iss = self.flow(number).iss.unwrap_or(0);
        packet::tcp(&Tcp {
            src: local,
            dst: peer,
            seq: iss.wrapping_add(seq as u32),
            ack: 0,
            flags: Flags::ACK,
            wnd: 1000,
            urgent: 0,
            options: Vec::new(),
            payload: vec![0; 8],
            bad_checksum: false,
        })
    }

    fn inject(&mut self, number: usize, text: &Text) -> Result<(), String> {
        let (local, peer) = (self.backend.local(number), self.backend.peer(number));
        let flow = self.flow(number);
        let seq = text.seq.unwrap_or(0);
        let len = text.len.unwrap_or(0);
        // Text begins at 1; behind a SYN that is one number later.
        let first = if text.flags.contains(Flags::SYN) { seq } else { seq - 1 };
        let mut payload = pattern::bytes(PUPPET, first as u64, len);
        if text.other {
            payload.iter_mut().for_each(|byte| *byte ^= 0xFF);
        }
        let mut src = peer;
        src.set_ip(text.from.unwrap_or(peer.ip()));
        let mut dst = local;
        dst.set_ip(text.to.unwrap_or(local.ip()));
        let segment = Tcp {
            src,
            dst,
            seq: flow.irs.wrapping_add(seq as u32),
            ack: text.ack.map_or(0, |ack| flow.iss.unwrap_or(0).wrapping_add(ack as u32)),
            flags: text.flags,
            wnd: text.win.unwrap_or(65_535),
            urgent: text.urgent,
            options: flow.encode(text.options.as_deref().unwrap_or_default()),
            payload,
            bad_checksum: text.bad_checksum,
        };
        let shown = format!("@{number} {}", describe(text));
        self.inject_bytes(packet::tcp(&segment), &shown)
    }

    fn expect(&mut self, line: &Line, text: &Text) -> Result<(), String> {
        let literal = self.backend.exactness() == Exactness::Literal;
        match line.delay {
            _ if !self.pending.is_empty() => {}
            Some(_) if literal => self.backend.advance(TOLERANCE),
            delay => self.backend.wait(delay.map_or(AT_ONCE, late)),
        }
        self.collect()?;
        let early = if literal { TOLERANCE * 2 } else { EARLY };
        let now = Duration::from_micros(self.backend.clock_micros());
        let Some(got) = self.pending.pop_front() else {
            return Err("expected a segment, nothing was sent".into());
        };
        if line.delay.is_some() && got.at + early < now {
            let early = now.saturating_sub(got.at).as_secs_f64();
            return Err(format!("sent {early:.6} s too early: {}", got.text));
        }
        let Seen::Tcp(seg) = &got.seen else {
            return Err(format!("expected a segment, got {} ({} bytes)", got.text, got.bytes.len()));
        };
        let number = self.flow_of(seg);
        let mismatch = if number == line.flow { self.flow(number).mismatch(seg, text, literal) } else { Some("flow") };
        match mismatch {
            None => Ok(()),
            Some(what) => Err(format!("{what} differs; got {}", got.text)),
        }
    }
}

/// What an operation answers when nothing goes wrong.
fn default_answer(op: &[&str]) -> String {
    match op {
        ["read" | "write" | "peek", count] => count.to_string(),
        _ => "ok".into(),
    }
}

fn describe(text: &Text) -> String {
    let mut out = flags_text(text.flags);
    let (seq, len) = (text.seq.unwrap_or(0), text.len.unwrap_or(0));
    let _ = write!(out, " {seq}:{}({len})", seq + len as i64);
    if let Some(ack) = text.ack {
        let _ = write!(out, " ack {ack}");
    }
    if let Some(options) = &text.options {
        let _ = write!(out, " <{}>", options_text(options));
    }
    out
}

impl Flow {
    fn relative_seq(&self, seg: &SeenTcp) -> i64 {
        i64::from(seg.seq.wrapping_sub(self.iss.unwrap_or(0)) as i32)
    }

    fn relative_ack(&self, seg: &SeenTcp) -> i64 {
        i64::from(seg.ack.wrapping_sub(self.irs) as i32)
    }

    fn options(&self, seg: &SeenTcp) -> Vec<Opt> {
        options_of(&seg.options, self.irs, self.ts_first.unwrap_or(0))
    }

    fn describe(&self, seg: &SeenTcp, number: usize) -> String {
        let (seq, len) = (self.relative_seq(seg), seg.payload.len());
        let mut out = format!("@{number} {} {seq}:{}({len})", flags_text(seg.flags), seq + len as i64);
        if seg.flags.contains(Flags::ACK) {
            let _ = write!(out, " ack {}", self.relative_ack(seg));
        }
        let _ = write!(out, " win {}", seg.wnd);
        let options = self.options(seg);
        if !options.is_empty() {
            let _ = write!(out, " <{}>", options_text(&options));
        }
        out
    }

    /// The first field in which `seg` is not what `want` says.
    fn mismatch(&self, seg: &SeenTcp, want: &Text, literal: bool) -> Option<&'static str> {
        let mask = if want.push { Flags::NONE } else { Flags::PSH };
        if seg.flags.without(mask) != want.flags.without(mask) {
            return Some("flags");
        }
        let options_differ = || {
            let got = self.options(seg);
            let matches = if literal { option_matches } else { option_resembles };
            want.options.as_ref().is_some_and(|want| {
                let want: Vec<&Opt> = want.iter().filter(|option| **option != Opt::Nop).collect();
                want.len() != got.len() || !want.iter().all(|want| got.iter().any(|got| matches(want, got)))
            })
        };
        let checks = [
            ("sequence number", want.seq.is_some_and(|seq| seq != self.relative_seq(seg))),
            ("length", want.len.is_some_and(|len| len != seg.payload.len())),
            ("acknowledgment", want.ack.is_some_and(|ack| ack != self.relative_ack(seg))),
            ("window", want.win.is_some_and(|win| if literal { win != seg.wnd } else { (win == 0) != (seg.wnd == 0) })),
            ("TTL", want.ttl.is_some_and(|ttl| ttl != seg.hop_limit)),
            ("TOS", want.tos.is_some_and(|tos| tos != seg.traffic_class)),
            ("options", options_differ()),
        ];
        checks.iter().find(|(_, differs)| *differs).map(|(name, _)| *name)
    }

    /// Option bytes of an injected segment.
    fn encode(&self, options: &[Opt]) -> Vec<u8> {
        let mut out = Vec::new();
        for option in options {
            match option {
                Opt::Mss(mss) => {
                    out.extend([2, 4]);
                    out.extend(mss.to_be_bytes());
                }
                Opt::SackOk => out.extend([4, 2]),
                Opt::Ts(val, ecr) => {
                    let base = self.ts_first.unwrap_or(0);
                    let ecr = ecr.map_or(self.ts_last, |ecr| base.wrapping_add(ecr as u32));
                    out.extend([8, 10]);
                    out.extend((val.unwrap_or(0) as u32).to_be_bytes());
                    out.extend(ecr.to_be_bytes());
                }
                Opt::Ws(ws) => out.extend([3, 3, *ws]),
                Opt::Sack(blocks) => {
                    let base = self.iss.unwrap_or(0);
                    out.extend([5, 2 + 8 * blocks.len() as u8]);
                    for (left, right) in blocks {
                        out.extend(base.wrapping_add(*left as u32).to_be_bytes());
                        out.extend(base.wrapping_add(*right as u32).to_be_bytes());
                    }
                }
                Opt::Nop => out.push(1),
                Opt::Hex(bytes) => out.extend(bytes),
            }
        }
        out
    }
}
