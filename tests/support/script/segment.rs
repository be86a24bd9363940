//! Segments in script notation: `FLAGS SEQ:END(LEN) ack N win N <options> key value …`.

use usernet::internals::wire::{Flags, Options};

/// One segment as written in a script. Numbers are relative: 0 is the ISN of the side that counts them.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub flags: Flags,
    /// Check PSH too: only if the script names it.
    pub push: bool,
    pub seq: Option<i64>,
    pub len: Option<usize>,
    pub ack: Option<i64>,
    pub win: Option<u16>,
    pub options: Option<Vec<Opt>>,
    /// `other`: payload that is not the stream's (injected).
    pub other: bool,
    pub bad_checksum: bool,
    pub urgent: u16,
    /// `from ADDR`, `to ADDR`: instead of the puppet's and usernet's addresses.
    pub from: Option<std::net::IpAddr>,
    pub to: Option<std::net::IpAddr>,
    /// `ttl N`, `tos N`: expected of the IP header.
    pub ttl: Option<u8>,
    pub tos: Option<u8>,
}

/// One option as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opt {
    Mss(u16),
    SackOk,
    /// Value and echo; `None` is `*` (expected) or "the last TSval seen" for the echo (injected).
    Ts(Option<i64>, Option<i64>),
    Ws(u8),
    Sack(Vec<(i64, i64)>),
    Nop,
    /// Raw bytes.
    Hex(Vec<u8>),
}

/// `1+2*1448-3`: products with signs.
pub fn number(text: &str) -> Result<i64, String> {
    let mut total = 0i64;
    let mut term = String::new();
    for c in text.chars().chain(['+']) {
        if (c == '+' || c == '-') && !term.is_empty() && term != "-" {
            let factors = term.split('*').map(str::parse::<i64>);
            total += factors.product::<Result<i64, _>>().map_err(|_| format!("not a number: `{text}`"))?;
            term.clear();
        }
        match c {
            '+' => {}
            '-' if term == "-" => term.clear(),
            c => term.push(c),
        }
    }
    if term.is_empty() { Ok(total) } else { Err(format!("not a number: `{text}`")) }
}

fn field<T: TryFrom<i64>>(text: Option<&str>, name: &str) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("`{name}` needs a value"))?;
    T::try_from(number(text)?).map_err(|_| format!("`{name} {text}` is out of range"))
}

/// Parses everything after `<` or `>`.
pub fn parse(text: &str) -> Result<Text, String> {
    let (before, options, after) = match (text.find('<'), text.rfind('>')) {
        (Some(open), Some(close)) if open < close => {
            (&text[..open], Some(parse_options(&text[open + 1..close])?), &text[close + 1..])
        }
        (None, None) => (text, None, ""),
        _ => return Err("unbalanced `<…>`".into()),
    };
    let mut out = Text { options, ..Text::default() };
    let mut words = before.split_whitespace().chain(after.split_whitespace());
    let flags = words.next().ok_or("no flags")?;
    (out.flags, out.push) = parse_flags(flags)?;
    while let Some(word) = words.next() {
        match word {
            "ack" => out.ack = Some(number(words.next().ok_or("`ack` needs a value")?)?),
            "win" => out.win = Some(field(words.next(), "win")?),
            "urg" => out.urgent = field(words.next(), "urg")?,
            "ttl" => out.ttl = Some(field(words.next(), "ttl")?),
            "tos" => out.tos = Some(field(words.next(), "tos")?),
            "from" => out.from = Some(address(words.next())?),
            "to" => out.to = Some(address(words.next())?),
            "other" => out.other = true,
            "badsum" => out.bad_checksum = true,
            range if range.contains('(') => (out.seq, out.len) = parse_range(range)?,
            other => return Err(format!("unknown word `{other}` in a segment")),
        }
    }
    Ok(out)
}

fn address(text: Option<&str>) -> Result<std::net::IpAddr, String> {
    text.and_then(|t| t.parse().ok()).ok_or_else(|| format!("not an address: {text:?}"))
}

/// `SEQ:END(LEN)` or `SEQ(LEN)`.
fn parse_range(text: &str) -> Result<(Option<i64>, Option<usize>), String> {
    let (range, len) = text.split_once('(').ok_or("no `(`")?;
    let len = len.strip_suffix(')').ok_or("no `)`")?;
    let len: usize = usize::try_from(number(len)?).map_err(|_| "negative length")?;
    let (seq, end) = range.split_once(':').unwrap_or((range, ""));
    let seq = number(seq)?;
    if !end.is_empty() && number(end)? != seq + len as i64 {
        return Err(format!("`{text}`: end is not start + length"));
    }
    Ok((Some(seq), Some(len)))
}

const FLAGS: [(char, Flags); 8] = [
    ('F', Flags::FIN),
    ('S', Flags::SYN),
    ('R', Flags::RST),
    ('P', Flags::PSH),
    ('.', Flags::ACK),
    ('U', Flags::URG),
    ('E', Flags::ECE),
    ('W', Flags::CWR),
];

fn parse_flags(text: &str) -> Result<(Flags, bool), String> {
    let mut flags = Flags::NONE;
    for c in text.chars().filter(|&c| c != '-') {
        let (_, flag) = FLAGS.iter().find(|(name, _)| *name == c).ok_or_else(|| format!("unknown flag `{c}`"))?;
        flags |= *flag;
    }
    Ok((flags, text.contains('P')))
}

fn parse_options(text: &str) -> Result<Vec<Opt>, String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(parse_option).collect()
}

fn parse_option(text: &str) -> Result<Opt, String> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default();
    let star = |word: Option<&str>| match word {
        None | Some("*") => Ok(None),
        Some(value) => number(value).map(Some),
    };
    Ok(match name {
        "mss" => Opt::Mss(field(words.next(), "mss")?),
        "sackOK" => Opt::SackOk,
        "ts" => Opt::Ts(star(words.next())?, star(words.next())?),
        "ws" => Opt::Ws(field(words.next(), "ws")?),
        "sack" => Opt::Sack(words.map(sack_block).collect::<Result<_, _>>()?),
        "nop" => Opt::Nop,
        "hex" => Opt::Hex(hex(&words.collect::<String>())?),
        other => return Err(format!("unknown option `{other}`")),
    })
}

fn sack_block(text: &str) -> Result<(i64, i64), String> {
    let (left, right) = text.split_once(':').ok_or("a SACK block is LEFT:RIGHT")?;
    Ok((number(left)?, number(right)?))
}

/// `0204 05b4` as bytes.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let parse = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("?"), 16);
    digits.chunks(2).map(|pair| parse(pair).map_err(|_| format!("not hex: `{text}`"))).collect()
}

/// Flags in script notation, PSH left out.
pub fn flags_text(flags: Flags) -> String {
    let text: String = FLAGS.iter().filter(|(_, f)| *f != Flags::PSH && flags.contains(*f)).map(|(c, _)| *c).collect();
    if text.is_empty() { "-".into() } else { text }
}

/// Options a parsed segment carries, in script notation; sequence numbers relative to `base`, TSval to `ts_base`.
pub fn options_of(options: &Options, base: u32, ts_base: u32) -> Vec<Opt> {
    let mut out = Vec::new();
    out.extend(options.mss.map(Opt::Mss));
    out.extend(options.sack_permitted.then_some(Opt::SackOk));
    let ts = options.timestamps;
    out.extend(ts.map(|ts| Opt::Ts(Some(i64::from(ts.val.wrapping_sub(ts_base))), Some(i64::from(ts.ecr)))));
    out.extend(options.window_scale.map(Opt::Ws));
    if !options.sack.is_empty() {
        let relative = |seq: u32| i64::from(seq.wrapping_sub(base) as i32);
        let blocks = options.sack.as_slice().iter();
        out.push(Opt::Sack(blocks.map(|b| (relative(b.left.raw()), relative(b.right.raw()))).collect()));
    }
    out
}

/// Whether an expected option matches one that came.
pub fn option_matches(want: &Opt, got: &Opt) -> bool {
    let free = |want: &Option<i64>, got: &Option<i64>| want.is_none() || want == got;
    match (want, got) {
        (Opt::Ts(val, ecr), Opt::Ts(got_val, got_ecr)) => free(val, got_val) && free(ecr, got_ecr),
        (want, got) => want == got,
    }
}

/// The same for another implementation under a real clock: how far it shifts the window is its choice, and its
/// timestamps went on a little.
pub fn option_resembles(want: &Opt, got: &Opt) -> bool {
    const TICKS: std::ops::RangeInclusive<i64> = -20..=60;
    match (want, got) {
        (Opt::Ws(_), Opt::Ws(_)) => true,
        (Opt::Ts(Some(val), ecr), Opt::Ts(Some(got_val), _)) if TICKS.contains(&(got_val - val)) => {
            option_matches(&Opt::Ts(None, *ecr), got)
        }
        (want, got) => option_matches(want, got),
    }
}

/// Options in script notation.
pub fn options_text(options: &[Opt]) -> String {
    let text: Vec<String> = options
        .iter()
        .map(|option| match option {
            Opt::Mss(mss) => format!("mss {mss}"),
            Opt::SackOk => "sackOK".into(),
            Opt::Ts(val, ecr) => {
                let star = |n: &Option<i64>| n.map_or("*".to_string(), |n| n.to_string());
                format!("ts {} {}", star(val), star(ecr))
            }
            Opt::Ws(ws) => format!("ws {ws}"),
            Opt::Sack(blocks) => {
                let blocks: Vec<String> = blocks.iter().map(|(l, r)| format!("{l}:{r}")).collect();
                format!("sack {}", blocks.join(" "))
            }
            Opt::Nop => "nop".into(),
            Opt::Hex(bytes) => format!("hex {}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        })
        .collect();
    text.join(",")
}
