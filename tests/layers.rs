//! The layer table of ARCHITECTURE.md, checked: which room of the crate may name which, and which may name what outside.
//!
//! Every path of every source file is resolved: use items, `crate::`, `self::`, `super::`, inline paths in types and
//! expressions, and paths inside macro calls. What only tests compile is left out.

mod source;

use std::collections::{BTreeSet, HashMap};

use proc_macro2::{TokenStream, TokenTree};
use source::{Source, is_test_only, module_tree};
use syn::visit::{self, Visit};

/// A room and the rooms it may name. Lower rooms never name higher ones.
const EDGES: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("error", &[]),
    ("config", &[]),
    ("stats", &[]),
    ("wire", &["time", "error", "config", "stats"]),
    ("pipe", &["wire", "time", "error", "config", "stats"]),
    ("tcb", &["pipe", "wire", "time", "error", "config", "stats"]),
    ("stack", &["tcb", "pipe", "wire", "time", "error", "config", "stats"]),
    ("device", &["wire", "time"]),
    ("reactor", &["stack", "device", "pipe", "time", "error", "config", "stats"]),
    ("net", &["reactor", "pipe", "device", "config", "error"]),
];

/// Edges beyond the drawing, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("net", "stats", "`Stack::stats()` returns the counters"),
    ("reactor", "wire", "`wire::Offload` travels with each packet between engine and device"),
];

/// An outside name and the only places that may use it (a prefix of the module path).
const OWNED_CRATES: &[(&str, &[&str])] = &[
    ("etherparse", &["wire"]),
    ("tun", &["device::tun"]),
    ("netlink_packet_core", &["device::tun"]),
    ("netlink_packet_route", &["device::tun"]),
    ("netlink_sys", &["device::tun"]),
    ("pcap_file", &["device::pcap"]),
    ("memmap2", &["pipe::memory"]),
    ("getrandom", &["net", "reactor"]),
    ("fastrand", &["device::fault"]),
];

/// The rooms that are sans-IO.
const PURE: &[&str] = &["time", "error", "config", "stats", "wire", "pipe", "tcb", "stack"];

/// What a sans-IO room never names: runtimes, clocks, sockets, chance, the process around it.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "getrandom",
    "fastrand",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
];

#[test]
fn every_path_keeps_to_the_layer_table() {
    let problems = check_all(&module_tree());
    assert!(problems.is_empty(), "{} paths leave their layer:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_room_has_a_row_and_every_row_a_room() {
    let rooms: BTreeSet<String> =
        module_tree().iter().map(|source| source.room().to_owned()).filter(|room| !room.is_empty()).collect();
    let rows: BTreeSet<String> = EDGES.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, rows);
}

#[test]
fn a_breach_is_found_in_every_disguise() {
    for (text, breach) in [
        ("use crate::stack::Engine;", "stack"),
        ("use super::super::net;", "net"),
        ("use crate::{wire, net::{self, Stack}};", "net"),
        ("fn f() -> crate::reactor::Command { todo!() }", "reactor"),
        ("fn f() { let x = super::super::stack::Engine::new(); }", "stack"),
        ("fn f() { debug_assert!(crate::stack::is_odd()); }", "stack"),
        ("use std::time as t; fn f() { t::Instant::now(); }", "std::time::Instant"),
        ("fn f() { ::tokio::spawn(async {}); }", "tokio"),
        ("mod inner { use super::super::super::stack::Engine; }", "stack"),
        ("use etherparse::TcpHeader;", "etherparse"),
        ("use std::net::*;", "glob"),
    ] {
        let source = imaginary(text);
        let problems = check_all(std::slice::from_ref(&source));
        assert!(problems.iter().any(|problem| problem.contains(breach)), "{text}: {problems:?}");
    }
    for text in [
        "use crate::wire::Seq; use super::state::State; use std::net::IpAddr; use std::time::Duration;",
        "#[cfg(test)] mod tests { use crate::net::Stack; }",
        "use std::net; fn f(a: net::SocketAddr) {}",
        "pub(crate) fn f() {} pub(in crate::tcb) fn g() {}",
    ] {
        assert_eq!(check_all(&[imaginary(text)]), Vec::<String>::new(), "{text}");
    }
}

fn imaginary(text: &str) -> Source {
    Source {
        path: "src/tcb/input.rs".into(),
        module: vec!["tcb".into(), "input".into()],
        text: text.into(),
        ast: syn::parse_file(text).expect("test source parses"),
    }
}

fn check_all(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| !source.room().is_empty()) {
        let mut walk = Walk { module: source.module.clone(), aliases: HashMap::new(), paths: Vec::new() };
        walk.visit_file(&source.ast);
        let Walk { aliases, paths, .. } = walk;
        for (line, module, path) in paths {
            let full = resolve(&path, &module, &aliases);
            if let Some(problem) = judge(source, &full) {
                problems.push(format!("{}:{line}: {problem} (`{}`)", source.path, path.join("::")));
            }
        }
    }
    problems
}

/// Where a resolved path points.
enum Target {
    /// A path in this crate, from its root.
    Inside(Vec<String>),
    /// Another crate, or a local name that means nothing here.
    Outside(Vec<String>),
}

fn resolve(path: &[String], module: &[String], aliases: &HashMap<String, Vec<String>>) -> Target {
    let mut path = path.to_vec();
    // A few rounds are enough for any alias of an alias; the bound ends `use a::b; use b::a;`.
    for _ in 0..4 {
        match path.first().and_then(|first| aliases.get(first)) {
            Some(full) if full.first() != path.first() => {
                path = full.iter().cloned().chain(path.drain(1..)).collect();
            }
            _ => break,
        }
    }
    let mut here = module.to_vec();
    let mut inside = false;
    let mut rest = path.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "crate" => here.clear(),
            "super" => drop(here.pop()),
            "self" => {}
            _ => break,
        }
        inside = true;
        rest = tail;
    }
    if inside {
        here.extend(rest.iter().cloned());
        Target::Inside(here)
    } else {
        Target::Outside(rest.to_vec())
    }
}

fn judge(source: &Source, target: &Target) -> Option<String> {
    let room = source.room();
    match target {
        Target::Inside(path) => {
            let first = path.first()?;
            if first == room {
                return None;
            }
            let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == room) else {
                return Some(format!("`{room}` has no row in the table"));
            };
            if !EDGES.iter().any(|(name, _)| name == first) {
                return Some(format!("`{first}` is a name of the crate's root; name its room"));
            }
            let excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == room && to == first);
            (!allowed.contains(&first.as_str()) && !excepted).then(|| format!("`{room}` may not name `{first}`"))
        }
        Target::Outside(path) => {
            let first = path.first()?;
            let module = source.module.join("::");
            if let Some((_, owners)) = OWNED_CRATES.iter().find(|(name, _)| name == first)
                && !owners.iter().any(|owner| module == *owner || module.starts_with(&format!("{owner}::")))
            {
                return Some(format!("only {owners:?} may name the crate `{first}`"));
            }
            if !PURE.contains(&room) {
                return None;
            }
            let joined = path.join("::");
            if ["std::net::*", "std::time::*"].contains(&joined.as_str()) {
                return Some("a glob would hide what is named".into());
            }
            IMPURE
                .iter()
                .find(|name| joined == **name || joined.starts_with(&format!("{name}::")))
                .map(|name| format!("`{room}` is sans-IO and may not name `{name}`"))
        }
    }
}

type Named = (usize, Vec<String>, Vec<String>);

/// Collects every path of a file with its line and the module it stands in.
struct Walk {
    module: Vec<String>,
    aliases: HashMap<String, Vec<String>>,
    paths: Vec<Named>,
}

impl Walk {
    fn push(&mut self, line: usize, path: Vec<String>) {
        self.paths.push((line, self.module.clone(), path));
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| prefix.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, prefix)),
            syn::UseTree::Glob(glob) => {
                let path = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                self.push(source::lines(glob).0, path);
            }
            syn::UseTree::Name(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { with(&name.ident) };
                self.alias(path.last().cloned(), &path);
                self.push(source::lines(name).0, path);
            }
            syn::UseTree::Rename(rename) => {
                let path = if rename.ident == "self" { prefix.to_vec() } else { with(&rename.ident) };
                self.alias(Some(rename.rename.to_string()), &path);
                self.push(source::lines(rename).0, path);
            }
        }
    }

    /// Remembers what a name means. Only names of outside crates matter: an inside name was judged at its use item.
    fn alias(&mut self, name: Option<String>, path: &[String]) {
        let outside = !matches!(path.first().map(String::as_str), Some("crate" | "super" | "self") | None);
        if let (Some(name), true) = (name, outside) {
            self.aliases.insert(name, path.to_vec());
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut line = 0;
        for tree in tokens {
            match tree {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.push(line, path);
        }
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(source::item_attrs(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.push(source::lines(path).0, names);
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}
