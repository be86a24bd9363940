//! The crate's own source, parsed: the module tree from `src/lib.rs` down, without what only tests see.
//!
//! Shared by the tests that check the house rules (`layers`, `house`, `coverage`).
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::spanned::Spanned;

/// One source file.
pub struct Source {
    /// Path from the repository's root: `src/wire/seq.rs`.
    pub path: String,
    /// Module path: `["wire", "seq"]`; empty for `lib.rs`.
    pub module: Vec<String>,
    pub text: String,
    pub ast: syn::File,
}

impl Source {
    /// The first component of the module path; empty for `lib.rs`.
    pub fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the module tree that is not compiled for tests only.
pub fn module_tree() -> Vec<Source> {
    let mut found = Vec::new();
    visit(&root().join("src/lib.rs"), Vec::new(), &mut found);
    found
}

/// Every `.rs` file below `dir` (relative to the root), sorted.
pub fn rust_files(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("directory entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `path` from the root, with `/`.
pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Parses one file.
pub fn parse(path: &Path) -> (String, syn::File) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let ast = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (text, ast)
}

fn visit(file: &Path, module: Vec<String>, found: &mut Vec<Source>) {
    let (text, ast) = parse(file);
    let is_dir_owner = matches!(file.file_name().and_then(|name| name.to_str()), Some("mod.rs" | "lib.rs"));
    let dir = if is_dir_owner { file.with_file_name("") } else { file.with_extension("") };
    let children: Vec<String> = ast
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Mod(child) if child.content.is_none() && !is_test_only(&child.attrs) => {
                Some(child.ident.to_string())
            }
            _ => None,
        })
        .collect();
    found.push(Source { path: relative(file), module: module.clone(), text, ast });
    for child in children {
        let mut path = dir.join(format!("{child}.rs"));
        if !path.exists() {
            path = dir.join(&child).join("mod.rs");
        }
        let mut module = module.clone();
        module.push(child);
        visit(&path, module, found);
    }
}

/// Whether an item with these attributes exists in tests only: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ..))]`.
pub fn is_test_only(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        if attr.path().is_ident("test") {
            return true;
        }
        let syn::Meta::List(list) = &attr.meta else { return false };
        list.path.is_ident("cfg") && {
            let text = list.tokens.to_string();
            text == "test" || (text.starts_with("all") && has_word(&list.tokens, "test"))
        }
    })
}

fn has_word(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|tree| match tree {
        proc_macro2::TokenTree::Ident(ident) => ident == word,
        proc_macro2::TokenTree::Group(group) => has_word(&group.stream(), word),
        _ => false,
    })
}

/// The attributes of an item, if it can carry any.
pub fn item_attrs(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// First and last line of a node, counted from 1.
pub fn lines(node: &impl Spanned) -> (usize, usize) {
    let span = node.span();
    (span.start().line, span.end().line)
}
