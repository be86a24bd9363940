//! Every method of tokio's TCP types, by name, signature and deprecation.

use std::collections::HashMap;

use super::source::root;

/// tokio's name of a type of ours.
const NAMES: [(&str, &str); 3] =
    [("UserStream", "TcpStream"), ("UserListener", "TcpListener"), ("UserSocket", "TcpSocket")];

struct Method {
    signature: syn::Signature,
    is_deprecated: bool,
}

/// Public inherent methods of `src/net`, by (type, name), with tokio's type names.
fn ours() -> HashMap<(String, String), Method> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir(root().join("src/net")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "rs") {
            continue;
        }
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (ours, theirs) in NAMES {
            text = text.replace(ours, theirs);
        }
        for item in syn::parse_file(&text).unwrap().items {
            let syn::Item::Impl(item) = item else { continue };
            let (None, syn::Type::Path(of)) = (&item.trait_, &*item.self_ty) else { continue };
            let of = of.path.segments.last().unwrap().ident.to_string();
            for method in item.items {
                let syn::ImplItem::Fn(method) = method else { continue };
                if !matches!(method.vis, syn::Visibility::Public(_)) {
                    continue;
                }
                let is_deprecated = method.attrs.iter().any(|attr| attr.path().is_ident("deprecated"));
                let key = (of.clone(), method.sig.ident.to_string());
                found.insert(key, Method { signature: method.sig, is_deprecated });
            }
        }
    }
    found
}

#[test]
fn every_method_of_tokio_is_here_with_its_signature() {
    let ours = ours();
    let mut problems = Vec::new();
    let mut counts = HashMap::new();
    for line in include_str!("tokio_net.txt").lines().filter(|line| !line.starts_with('#')) {
        let (of, rest) = line.split_once(' ').unwrap();
        let (class, signature) = rest.split_once(" pub ").unwrap();
        *counts.entry(class.trim_end_matches('!')).or_insert(0) += 1;
        let signature = signature.replace("io::IoSlice", "IoSlice");
        let theirs: syn::Signature = syn::parse_str(&signature).unwrap();
        let method = ours.get(&(of.to_owned(), theirs.ident.to_string()));
        match (class, method) {
            ("X", None) => {}
            ("X", Some(_)) => problems.push(format!("{of}::{} cannot exist here", theirs.ident)),
            (_, None) => problems.push(format!("{of}::{} is missing", theirs.ident)),
            (_, Some(method)) if method.signature != theirs => {
                problems.push(format!("{of}::{} has another signature than {signature}", theirs.ident));
            }
            (_, Some(method)) if method.is_deprecated != class.ends_with('!') => {
                problems.push(format!("{of}::{}: deprecated differs", theirs.ident));
            }
            _ => {}
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!((counts["M"], counts["A"], counts["X"]), (83, 13, 7));
}
