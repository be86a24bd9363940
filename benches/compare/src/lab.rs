//! The two network namespaces and the veth pair between them. Owns the process that keeps the second namespace.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use rtnetlink::{LinkUnspec, LinkVeth};
use usernet::device::tun::{link, namespace};

/// The kernel's end of the TUN, and the stack's.
pub const TUN_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
pub const TUN_STACK: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// The ends of the veth pair.
const VETH_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const VETH_SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
pub const PREFIX: u8 = 24;
/// The TUN of whoever is measured.
pub const TUN: &str = "bench0";
/// Packets in its queue: what usernet asks for.
pub const TUN_QUEUE: u32 = 10_000;

const HERE: &str = "vethk";
const THERE: &str = "vethv";

/// This process is in namespace K; `holder` lives in V.
pub struct Lab {
    holder: Child,
}

impl Lab {
    /// To be called before this process has a second thread.
    pub fn build() -> io::Result<Lab> {
        namespace::enter_private()?;
        namespace::probe()?;
        let mut holder = Command::new(std::env::current_exe()?)
            .args(["agent", "--role", "holder"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answers = BufReader::new(holder.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?);
        let lab = Lab { holder };
        expect(&mut answers, "in")?;
        veth(lab.namespace())?;
        link::add_address(HERE, VETH_KERNEL.into(), PREFIX)?;
        link::set_up(HERE)?;
        let mut stdin = lab.holder.stdin.as_ref().ok_or_else(|| io::Error::other("no pipe"))?;
        stdin.write_all(b"go\n")?;
        expect(&mut answers, "up")?;
        Ok(lab)
    }

    /// The process whose network namespace is V.
    pub fn namespace(&self) -> u32 {
        self.holder.id()
    }

    /// Where the peer is reached from V.
    pub fn over_veth() -> IpAddr {
        VETH_KERNEL.into()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Its end takes the namespace and the veth pair with it.
        let _gone_already = self.holder.kill();
        let _status = self.holder.wait();
    }
}

fn expect(answers: &mut impl BufRead, word: &str) -> io::Result<()> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    if line.trim() == word {
        return Ok(());
    }
    Err(io::Error::other("the second network namespace could not be made; its error is above"))
}

/// Makes the pair here and moves one end into the namespace of `process`.
fn veth(process: u32) -> io::Result<()> {
    let failed = |error| io::Error::other(format!("making a veth pair: {error} (is the kernel's veth module there?)"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new(HERE, THERE).build()).execute().await.map_err(failed)?;
        let moved = LinkUnspec::new_with_name(THERE).setns_by_pid(process).build();
        handle.link().set(moved).execute().await.map_err(failed)
    })
}

/// What the holder does.
pub fn hold() -> io::Result<()> {
    namespace::enter_private()?;
    println!("in");
    let mut lines = io::stdin().lines();
    lines.next().transpose()?;
    link::add_address(THERE, VETH_SUBJECT.into(), PREFIX)?;
    link::set_up(THERE)?;
    println!("up");
    // Until the pipe is closed.
    lines.next().transpose()?;
    Ok(())
}
