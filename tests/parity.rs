//! One body, two instantiations: what a program sees of `tokio::net` on the host's loopback it sees of `usernet::net` on
//! the embedded stack. A difference is a bug here, or a row in README's "Differences from tokio::net".

// A test's helpers may panic too; `allow-…-in-tests` covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::excessive_nesting)]

/// On the kernel.
mod kernel {
    use tokio::net;
    include!("parity/cases.rs");
    include!("parity/endings.rs");
    include!("parity/last_words.rs");
    include!("parity/programs.rs");
    include!("parity/ports.rs");
    include!("parity/readiness.rs");
}

/// On the embedded stack.
mod userspace {
    use usernet::net;
    include!("parity/cases.rs");
    include!("parity/endings.rs");
    include!("parity/last_words.rs");
    include!("parity/programs.rs");
    include!("parity/ports.rs");
    include!("parity/readiness.rs");
}
