//! Connections that are opened and then do nothing. At the end a byte goes there and back on each.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Figures;
use super::echo::open;
use super::meter;
use super::net::Net;

/// Until all delayed work is done.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the idleness is watched.
const WATCH: Duration = Duration::from_millis(500);

/// Serves until `end`; says when the last of `count` connections was accepted.
pub async fn serve(listener: &TcpListener, count: u64, end: impl Future<Output = ()>) -> io::Result<Figures> {
    let all = async {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await?;
            // As in `echo`.
            stream.set_zero_linger()?;
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await {
                    stream.write_u8(byte).await?;
                }
                io::Result::Ok(())
            });
        }
        io::Result::Ok(meter::now())
    };
    let accepted = all.await?;
    end.await;
    Ok(vec![("accepted", accepted)])
}

pub async fn measure<N: Net>(net: &N, peer: SocketAddr, count: u64) -> io::Result<Figures> {
    let resident = meter::resident_kib()?;
    let slab = meter::slab_kib()?;
    let began = meter::now();
    let mut streams = open(net, peer, count).await?;
    let opened = meter::now();
    tokio::time::sleep(SETTLE).await;
    let each = |before: f64, after: f64| (after - before) / count as f64;
    let resident = each(resident, meter::resident_kib()?);
    // The sockets of both ends: the peer's are there whoever the subject is.
    let slab = each(slab, meter::slab_kib()?);
    let cpu = meter::cpu();
    tokio::time::sleep(WATCH).await;
    let cpu = (meter::cpu() - cpu) / WATCH.as_secs_f64();

    for (number, stream) in (0_usize..).zip(&mut streams) {
        let byte = number.to_le_bytes()[0];
        stream.write_all(&[byte]).await?;
        if stream.read_u8().await? != byte {
            return Err(io::Error::other(format!("connection {number}: a wrong byte came back")));
        }
    }
    let kib = if net.is_kernel() { resident + slab / 2.0 } else { resident };
    Ok(vec![
        ("began", began),
        ("opened", opened),
        ("kib", kib),
        ("resident_kib", resident),
        ("slab_kib", slab),
        ("idle_cpu", cpu),
        ("count", count as f64),
    ])
}
