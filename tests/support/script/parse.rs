//! From a file to steps: includes, variables and `each` are expanded here, so the runner sees a flat list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::segment::{self, Text, number};
use crate::support::packet::Icmp;

/// One line of a script.
#[derive(Clone, Debug)]
pub struct Line {
    /// `file:line` and the text after substitution.
    pub at: String,
    pub text: String,
    /// `+T` in front: advance that far first.
    pub delay: Option<Duration>,
    /// `@N`: which puppet port; 1 without.
    pub flow: usize,
    pub step: Step,
}

/// What a line does.
#[derive(Clone, Debug)]
pub enum Step {
    /// `+T` alone.
    Nothing,
    Config(String, String),
    Inject(Text),
    InjectIcmp(Icmp, i64),
    InjectEcho(usize),
    InjectRaw(Vec<u8>),
    Expect(Text),
    ExpectEcho(usize),
    User(Vec<String>, Option<String>),
    /// `state`, `stat`, `info`, `count`, `ready`: name and expected value.
    Check(Vec<String>),
    Silence,
    /// Forget what was sent and not looked at.
    Drain,
    /// What follows up to `go` is one turn of the reactor.
    Hold,
    Go,
}

/// A script with one choice of its `each` variables.
#[derive(Debug)]
pub struct Case {
    /// Values of the `each` variables.
    pub name: String,
    pub lines: Vec<Line>,
}

type Vars = BTreeMap<String, String>;

/// Reads `path` and everything it includes.
pub fn load(path: &Path) -> Result<Vec<Case>, String> {
    let source = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut choices: Vec<Vars> = vec![Vars::new()];
    for line in source.lines().map(strip) {
        let Some(rest) = line.strip_prefix("each ") else { continue };
        let (name, values) = rest.split_once(" in ").ok_or_else(|| format!("{}: `each NAME in …`", path.display()))?;
        let mut next = Vec::new();
        for choice in &choices {
            for value in values.split_whitespace() {
                let mut choice = choice.clone();
                choice.insert(name.trim().to_string(), value.to_string());
                next.push(choice);
            }
        }
        choices = next;
    }
    let mut cases = Vec::new();
    for choice in choices {
        let name = choice.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        let mut expander = Expander { vars: choice, lines: Vec::new(), depth: 0 };
        expander.file(path, &source)?;
        cases.push(Case { name, lines: expander.lines });
    }
    Ok(cases)
}

fn strip(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

struct Expander {
    vars: Vars,
    lines: Vec<Line>,
    depth: usize,
}

impl Expander {
    fn file(&mut self, path: &Path, source: &str) -> Result<(), String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut skipping = false;
        for (index, raw) in source.lines().enumerate() {
            let at = format!("{name}:{}", index + 1);
            let fail = |message: String| format!("{at}: {message}\n    {raw}");
            let text = self.substitute(strip(raw)).map_err(fail)?;
            match text.split_whitespace().collect::<Vec<_>>().as_slice() {
                [] | ["each", ..] => {}
                ["end"] => skipping = false,
                _ if skipping => {}
                ["if", value, "in", set @ ..] => skipping = !set.contains(value),
                ["let", name, "=", value] => {
                    let value = number(value).map(|n| n.to_string()).unwrap_or_else(|_| value.to_string());
                    self.vars.insert((*name).to_string(), value);
                }
                ["include", name] => self.include(path, name).map_err(fail)?,
                _ => {
                    let line = parse_line(at.clone(), &text).map_err(fail)?;
                    self.lines.push(line);
                }
            }
        }
        Ok(())
    }

    fn include(&mut self, from: &Path, name: &str) -> Result<(), String> {
        self.depth += 1;
        if self.depth > 20 {
            return Err("includes itself".into());
        }
        let mut folder = from.parent().map(Path::to_path_buf).unwrap_or_default();
        if folder.file_name().is_none_or(|f| f != "include") {
            folder.push("include");
        }
        let path: PathBuf = folder.join(format!("{name}.pkt"));
        let source = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let result = self.file(&path, &source);
        self.depth -= 1;
        result
    }

    /// Replaces `$name`. A name is letters, digits and `_`; an unknown one is an error.
    fn substitute(&self, text: &str) -> Result<String, String> {
        let mut parts = text.split('$');
        let mut out = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            out += self.vars.get(name).ok_or_else(|| format!("unknown variable `${name}`"))?;
            out += rest;
        }
        Ok(out)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>().map(Duration::from_secs_f64).map_err(|_| format!("not a time: `{text}`"))
}

fn parse_line(at: String, text: &str) -> Result<Line, String> {
    let mut rest = text.trim();
    let mut line = Line { at, text: text.to_string(), delay: None, flow: 1, step: Step::Nothing };
    if let Some(time) = rest.strip_prefix('+') {
        let (time, after) = time.split_once(char::is_whitespace).unwrap_or((time, ""));
        line.delay = Some(seconds(time)?);
        rest = after.trim();
    }
    if let Some(flow) = rest.strip_prefix('@') {
        let (flow, after) = flow.split_once(char::is_whitespace).ok_or("`@N` needs a step")?;
        line.flow = flow.parse().map_err(|_| format!("not a flow: `{flow}`"))?;
        rest = after.trim();
    }
    line.step = parse_step(rest)?;
    Ok(line)
}

fn parse_step(text: &str) -> Result<Step, String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let words = || rest.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    Ok(match word {
        "" => Step::Nothing,
        "<" => parse_inject(rest)?,
        ">" => match rest.strip_prefix("icmp echo-reply") {
            Some(len) => Step::ExpectEcho(len.trim().parse().map_err(|_| "`echo-reply LEN`")?),
            None => Step::Expect(segment::parse(rest)?),
        },
        "user" => {
            let (op, expected) = rest.split_once("=>").unwrap_or((rest, ""));
            let expected = (!expected.is_empty()).then(|| expected.trim().to_string());
            Step::User(op.split_whitespace().map(str::to_string).collect(), expected)
        }
        "setopt" => Step::User(std::iter::once("setopt".to_string()).chain(words()).collect(), None),
        "config" | "sockopt" | "ip" | "iss" | "irs" => {
            let (key, value) = match word {
                "config" => rest.split_once(' ').ok_or("`config NAME VALUE`")?,
                "sockopt" => rest.split_once(' ').ok_or("`sockopt NAME VALUE`")?,
                _ => ("", rest),
            };
            let key = if word == "config" { key.to_string() } else { format!("{word} {key}").trim().to_string() };
            Step::Config(key, value.trim().to_string())
        }
        "state" | "stat" | "info" | "count" | "ready" => {
            Step::Check(std::iter::once(word.to_string()).chain(words()).collect())
        }
        "silence" => Step::Silence,
        "drain" => Step::Drain,
        "hold" => Step::Hold,
        "go" => Step::Go,
        other => return Err(format!("unknown word `{other}`")),
    })
}

fn parse_inject(rest: &str) -> Result<Step, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let icmp = |kind, seq: &str| Ok(Step::InjectIcmp(kind, number(seq)?));
    match words.as_slice() {
        ["raw", bytes @ ..] => Ok(Step::InjectRaw(segment::hex(&bytes.concat())?)),
        ["icmp", "echo", len] => Ok(Step::InjectEcho(len.parse().map_err(|_| "`icmp echo LEN`")?)),
        ["icmp", "net-unreachable", "seq", seq] => icmp(Icmp::NetUnreachable, seq),
        ["icmp", "host-unreachable", "seq", seq] => icmp(Icmp::HostUnreachable, seq),
        ["icmp", "port-unreachable", "seq", seq] => icmp(Icmp::PortUnreachable, seq),
        ["icmp", "time-exceeded", "seq", seq] => icmp(Icmp::TimeExceeded, seq),
        ["icmp", "too-big", mtu, "seq", seq] => {
            let mtu = number(mtu)?;
            icmp(Icmp::TooBig(u32::try_from(mtu).map_err(|_| "an MTU is not negative")?), seq)
        }
        ["icmp", ..] => Err("unknown ICMP form".into()),
        _ => Ok(Step::Inject(segment::parse(rest)?)),
    }
}
