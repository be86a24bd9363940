//! House rules that the compiler does not know (CONTRIBUTING.md): file sizes, where unsafe lives, who assigns `State`,
//! what every module and every async function must say.

mod source;

use std::collections::BTreeSet;

use source::{Source, is_test_only, lines, module_tree, relative, rust_files};
use syn::visit::{self, Visit};

/// The only files with unsafe code; each of its blocks carries a safety argument.
const UNSAFE: &[&str] = &["src/device/tun/sys.rs", "src/pipe/memory.rs", "src/pipe/ring.rs"];

/// A file past this many lines of code is split by RFC topic.
const MAX_LINES: usize = 500;

#[test]
fn no_source_file_is_longer_than_the_house_allows() {
    let long: Vec<String> = module_tree()
        .iter()
        .map(|source| (lines_of_code(source), &source.path))
        .filter(|(count, _)| *count > MAX_LINES)
        .map(|(count, path)| format!("{path}: {count} lines of code"))
        .collect();
    assert!(long.is_empty(), "split by topic:\n{}", long.join("\n"));
}

fn lines_of_code(source: &Source) -> usize {
    let tests: Vec<(usize, usize)> =
        source.ast.items.iter().filter(|item| is_test_only(source::item_attrs(item))).map(lines).collect();
    let is_code = |(index, line): &(usize, &str)| {
        let line = line.trim();
        let number = index + 1;
        !line.is_empty()
            && !line.starts_with("//")
            && !tests.iter().any(|(first, last)| (*first..=*last).contains(&number))
    };
    source.text.lines().enumerate().filter(is_code).count()
}

#[test]
fn unsafe_code_lives_in_three_files() {
    let mut found = BTreeSet::new();
    for path in rust_files("src") {
        let text = std::fs::read_to_string(&path).expect("source is readable");
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        if code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code") {
            found.insert(relative(&path));
        }
        assert!(!code.contains("static mut"), "{}: a mutable static", relative(&path));
    }
    assert_eq!(found, UNSAFE.iter().map(|path| (*path).to_owned()).collect());
}

#[test]
fn every_unsafe_block_has_a_safety_argument() {
    for path in UNSAFE {
        let text = std::fs::read_to_string(source::root().join(path)).expect("source is readable");
        let all: Vec<&str> = text.lines().collect();
        for (index, line) in all.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !(code.contains("unsafe {") || code.contains("unsafe impl")) {
                continue;
            }
            let argued = all.iter().take(index + 1).rev().take(12).any(|line| line.contains("SAFETY:"));
            assert!(argued, "{path}:{}: unsafe without a `SAFETY:` comment above it", index + 1);
        }
    }
}

#[test]
fn every_file_belongs_to_the_module_tree() {
    let reached: BTreeSet<String> = module_tree().into_iter().map(|source| source.path).collect();
    for path in rust_files("src") {
        let path = relative(&path);
        let for_tests = path.ends_with("tests.rs") || path.contains("/tests/") || path.ends_with("testing.rs");
        assert!(reached.contains(&path) || for_tests, "{path} is compiled by nobody");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for source in module_tree() {
        let documented = source.text.lines().take(3).any(|line| line.starts_with("//!"));
        assert!(documented, "{} does not open with `//!`", source.path);
    }
}

#[test]
fn only_state_rs_assigns_the_state() {
    for source in module_tree().iter().filter(|source| source.room() == "tcb") {
        if source.path == "src/tcb/state.rs" {
            continue;
        }
        let mut walk = Assignments { found: Vec::new() };
        walk.visit_file(&source.ast);
        assert!(walk.found.is_empty(), "{}: lines {:?} assign the state", source.path, walk.found);
    }
}

/// Assignments to a field called `state`, `info.state` (the snapshot for users) excepted.
struct Assignments {
    found: Vec<usize>,
}

impl<'ast> Visit<'ast> for Assignments {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(source::item_attrs(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_expr_assign(&mut self, assign: &'ast syn::ExprAssign) {
        if let syn::Expr::Field(field) = &*assign.left
            && matches!(&field.member, syn::Member::Named(name) if name == "state")
            && !matches!(&*field.base, syn::Expr::Path(base) if base.path.is_ident("info"))
        {
            self.found.push(lines(assign).0);
        }
        visit::visit_expr_assign(self, assign);
    }
}

#[test]
fn every_public_async_fn_states_its_cancel_safety() {
    let mut silent = Vec::new();
    for source in module_tree().iter().filter(|source| source.room() == "net") {
        let mut walk = AsyncFns { silent: Vec::new() };
        walk.visit_file(&source.ast);
        silent.extend(walk.silent.into_iter().map(|(line, name)| format!("{}:{line}: {name}", source.path)));
    }
    assert!(silent.is_empty(), "no `# Cancel safety` section:\n{}", silent.join("\n"));
}

struct AsyncFns {
    silent: Vec<(usize, String)>,
}

impl AsyncFns {
    fn check(&mut self, vis: &syn::Visibility, sig: &syn::Signature, attrs: &[syn::Attribute]) {
        let public = matches!(vis, syn::Visibility::Public(_));
        if public && sig.asyncness.is_some() && !docs(attrs).contains("# Cancel safety") {
            self.silent.push((lines(&sig.ident).0, sig.ident.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for AsyncFns {
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check(&item.vis, &item.sig, &item.attrs);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check(&item.vis, &item.sig, &item.attrs);
    }
}

fn docs(attrs: &[syn::Attribute]) -> String {
    let mut text = String::new();
    for attr in attrs {
        if let syn::Meta::NameValue(pair) = &attr.meta
            && pair.path.is_ident("doc")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) = &pair.value
        {
            text.push_str(&line.value());
            text.push('\n');
        }
    }
    text
}
