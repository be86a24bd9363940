//! `tests/scripts/*.pkt`: one behaviour each, a puppet peer against one stack under a virtual clock. The language is
//! described in `tests/scripts/README.md`. Every script is a test named after its file; `each` lines multiply its cases.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use support::script::{parse, run, usernet_backend::UsernetBackend};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("tests/scripts exists")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pkt"))
        .collect();
    scripts.sort();
    let trials = scripts
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::test(name, move || play(&path).map_err(Failed::from))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Plays every case of a script; the message names the case that failed.
fn play(path: &Path) -> Result<(), String> {
    for mut case in parse::load(path)? {
        let name = format!("{} [{}]", path.display(), case.name);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut backend = UsernetBackend::new(&mut case)?;
            run::run(&case, &mut backend)
        }));
        match result {
            Ok(result) => result.map_err(|message| format!("{name}\n{message}"))?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                return Err(format!("{name}: panicked: {text}"));
            }
        }
    }
    Ok(())
}
