//! The table `tests/coverage.toml`: what this crate promises, and the test that shows it or the reason why none does.
//!
//! Fails on a missing row, on a row that nothing asks for, and on the name of a test that does not exist.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use source::{module_tree, parse, root};

/// Sections of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Every item of `tokio::net`'s TCP surface that exists here: `Type::method`, traits, free items.
    api: Rows,
    /// Every row of the table of errors in README: what happened, what the user sees.
    errors: Rows,
    /// What broke other stacks in the field, clause by clause.
    regressions: Rows,
    /// The defects of other userspace stacks.
    defects: Rows,
}

type Rows = BTreeMap<String, Shown>;

/// What stands behind a row.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shown {
    /// `FILE::TEST`, or the path of a script.
    Tests(Vec<String>),
    /// Why there is no test.
    Reason(String),
}

/// Rows that must exist. Those of `api` come from the source, see [`every_public_method_has_a_row`].
const ERRORS: &[&str] = &[
    "rst in SYN-SENT: ConnectionRefused",
    "retries exhausted: TimedOut",
    "user timeout exhausted: TimedOut",
    "rst later: unread bytes first, the error once, then EOF: ConnectionReset",
    "rst in CLOSE-WAIT: BrokenPipe",
    "write after own shutdown: BrokenPipe",
    "write after the error was taken: BrokenPipe",
    "icmp host unreachable while connecting: HostUnreachable",
    "icmp network unreachable while connecting: NetworkUnreachable",
    "icmp port unreachable while connecting: ConnectionRefused",
    "icmp unreachable once established: soft",
    "address taken: AddrInUse",
    "address not ours: AddrNotAvailable",
    "ports exhausted: AddrNotAvailable",
    "wrong family: InvalidInput",
    "wrong state: InvalidInput",
    "max_reserved spent: OutOfMemory naming the limit",
    "max_connections spent: OutOfMemory naming the limit",
    "device gone: NetworkDown for pending and later calls",
    "reactor dropped: NetworkDown for pending and later calls",
];

const REGRESSIONS: &[&str] = &[
    "1a SYN-ACK whose ACK is not ISS+1",
    "1b ACK one too low in SYN-RECEIVED",
    "1c ISN 0xFFFFFFFF",
    "2a peer shrinks its window",
    "2b peer sends past our window",
    "2c SACK with an ISN of 2^31 or more",
    "3a MSS 0",
    "3b MSS 1..12 with timestamps",
    "3c RTO doubled without a cap",
    "4a two desynchronised peers acking each other",
    "4b a throttle that stalls real retransmissions",
    "5a SYN from 0.0.0.0",
    "5b IHL below 5",
    "5c option length 0 at the end of the header",
    "5d payload shorter than headers",
    "6a 10^4 SYNs each retransmitted",
    "6b SYNs with wrong checksums",
    "6c one SYN never completed",
    "6d listener gap",
    "7a write, shutdown, late ACK",
    "7b drop right after write",
    "7c final data in the last ACK of the handshake",
    "8a data after local close is answered by RST",
    "8b SYN-ACK to a listener is answered by RST",
];

const DEFECTS: &[&str] = &[
    "01 drop removes the socket without FIN and loses queued data",
    "02 connect and accept miss a connection already half-closed",
    "03 an accepted connection in CLOSE-WAIT is thrown away",
    "04 a dropped future steals the next bytes or connection",
    "05 shutdown does nothing",
    "06 shutdown waits for TIME-WAIT and deadlocks",
    "07 RST reported as EOF, refused as aborted",
    "08 a retransmitted SYN makes a second stream",
    "09 memory per unverified SYN",
    "10 tail loss never retransmitted",
    "11 a straddling segment is dropped with its new bytes",
    "12 no checksum check, blind RST",
    "13 the same ISNs at every start",
    "14 unread data wiped in TIME-WAIT, out-of-order FIN forgotten, no give-up",
    "15 drop is always RST, write says Interrupted after queueing",
];

/// Items of the API that are no inherent methods.
const ITEMS: &[&str] = &[
    "AsyncRead for TcpStream",
    "AsyncRead for ReadHalf",
    "AsyncRead for OwnedReadHalf",
    "AsyncWrite for TcpStream",
    "AsyncWrite for WriteHalf",
    "AsyncWrite for OwnedWriteHalf",
    "Drop for OwnedWriteHalf",
    "Drop of TcpStream",
    "Debug for all",
    "AsRef<TcpStream>",
    "ReuniteError",
    "ToSocketAddrs",
    "lookup_host",
    "Interest and Ready",
    "io::split and copy_bidirectional",
];

/// The mirrored types and what they are called in the source.
const TYPES: &[(&str, &str)] = &[
    ("TcpStream", "UserStream"),
    ("TcpListener", "UserListener"),
    ("TcpSocket", "UserSocket"),
    ("ReadHalf", "ReadHalf"),
    ("WriteHalf", "WriteHalf"),
    ("OwnedReadHalf", "OwnedReadHalf"),
    ("OwnedWriteHalf", "OwnedWriteHalf"),
    ("Stack", "Stack"),
    ("StackBuilder", "StackBuilder"),
];

fn table() -> Table {
    let text = std::fs::read_to_string(root().join("tests/coverage.toml")).expect("tests/coverage.toml is readable");
    toml::from_str(&text).expect("tests/coverage.toml parses")
}

#[test]
fn every_promise_has_a_row_and_every_row_a_promise() {
    let table = table();
    for (section, rows, expected) in [
        ("errors", &table.errors, ERRORS),
        ("regressions", &table.regressions, REGRESSIONS),
        ("defects", &table.defects, DEFECTS),
    ] {
        let rows: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
        assert_eq!(rows, expected.iter().copied().collect(), "[{section}]");
    }
}

#[test]
fn every_public_method_has_a_row() {
    let mut expected: BTreeSet<String> = ITEMS.iter().map(|item| (*item).to_owned()).collect();
    expected.extend(public_methods());
    let rows: BTreeSet<String> = table().api.into_keys().collect();
    let missing: Vec<_> = expected.difference(&rows).collect();
    let extra: Vec<_> = rows.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "[api]: no row for {missing:#?}; nothing behind {extra:#?}");
}

/// `Type::method` for every public inherent method of the mirrored types, under tokio's names.
fn public_methods() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in module_tree().iter().filter(|source| source.room() == "net") {
        for item in &source.ast.items {
            let syn::Item::Impl(block) = item else { continue };
            let (None, syn::Type::Path(path)) = (&block.trait_, &*block.self_ty) else { continue };
            let name = path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            let Some((shown, _)) = TYPES.iter().find(|(_, ours)| *ours == name) else { continue };
            for item in &block.items {
                if let syn::ImplItem::Fn(method) = item
                    && matches!(method.vis, syn::Visibility::Public(_))
                {
                    found.insert(format!("{shown}::{}", method.sig.ident));
                }
            }
        }
    }
    found
}

#[test]
fn every_named_test_exists() {
    let table = table();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for rows in [&table.api, &table.errors, &table.regressions, &table.defects] {
        for (row, shown) in rows {
            match shown {
                Shown::Reason(reason) if reason.len() < 20 => problems.push(format!("{row}: {reason:?} is no reason")),
                Shown::Reason(_) => {}
                Shown::Tests(names) if names.is_empty() => problems.push(format!("{row}: no test and no reason")),
                Shown::Tests(names) => {
                    problems.extend(
                        names
                            .iter()
                            .filter(|name| !exists(name, &mut known))
                            .map(|name| format!("{row}: there is no test {name}")),
                    );
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether `FILE::TEST` names a test, `doc:FILE::ITEM` an item with an example that runs, or `FILE` a script.
fn exists(name: &str, known: &mut BTreeMap<String, BTreeSet<String>>) -> bool {
    let Some((file, test)) = name.split_once("::") else {
        return name.starts_with("tests/scripts/") && root().join(name).is_file();
    };
    let file = file.strip_prefix("doc:").unwrap_or(file);
    if !root().join(file).is_file() {
        return false;
    }
    let collect = if name.starts_with("doc:") { examples_in } else { tests_in };
    known.entry(name.replace(test, "")).or_insert_with(|| collect(file)).contains(test)
}

/// The names of all functions of a file whose documentation has an example that runs.
fn examples_in(file: &str) -> BTreeSet<String> {
    let (_, ast) = parse(&root().join(file));
    let mut found = BTreeSet::new();
    for item in &ast.items {
        let syn::Item::Impl(block) = item else { continue };
        for item in &block.items {
            if let syn::ImplItem::Fn(method) = item
                && method.attrs.iter().any(is_example)
            {
                found.insert(method.sig.ident.to_string());
            }
        }
    }
    found
}

/// A line of documentation that opens a code block, or a macro of this crate that makes one.
fn is_example(attr: &syn::Attribute) -> bool {
    let syn::Meta::NameValue(pair) = &attr.meta else { return false };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) => line.value().trim() == "```",
        syn::Expr::Macro(makes) => {
            makes.mac.path.segments.iter().any(|name| name.ident.to_string().ends_with("example"))
        }
        _ => false,
    }
}

/// The names of all tests of a file: functions with a `test` attribute, and those that a macro makes.
fn tests_in(file: &str) -> BTreeSet<String> {
    let (_, ast) = parse(&root().join(file));
    let mut found = BTreeSet::new();
    items(&ast.items, &mut found);
    found
}

fn items(list: &[syn::Item], found: &mut BTreeSet<String>) {
    for item in list {
        match item {
            syn::Item::Fn(function) => {
                let is_test =
                    |attr: &syn::Attribute| attr.path().segments.last().is_some_and(|segment| segment.ident == "test");
                if function.attrs.iter().any(is_test) {
                    found.insert(function.sig.ident.to_string());
                }
            }
            syn::Item::Mod(module) => {
                if let Some((_, list)) = &module.content {
                    items(list, found);
                }
            }
            syn::Item::Macro(makes) => names(makes.mac.tokens.clone(), found),
            syn::Item::Const(table) => {
                if let syn::Expr::Macro(makes) = &*table.expr {
                    names(makes.mac.tokens.clone(), found);
                }
            }
            _ => {}
        }
    }
}

/// In a macro: what follows `fn`, and what stands before `: LITERAL`.
fn names(tokens: proc_macro2::TokenStream, found: &mut BTreeSet<String>) {
    use proc_macro2::TokenTree::{Group, Ident, Literal, Punct};
    let trees: Vec<_> = tokens.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        match (tree, trees.get(at + 1), trees.get(at + 2)) {
            (Ident(word), Some(Ident(name)), _) if word == "fn" => drop(found.insert(name.to_string())),
            (Ident(name), Some(Punct(colon)), Some(Literal(_))) if colon.as_char() == ':' => {
                found.insert(name.to_string());
            }
            (Group(group), ..) => names(group.stream(), found),
            _ => {}
        }
    }
}
