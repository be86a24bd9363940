//! The life of a socket as a table: a row for every change of state, taken from `info()`.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Instant;

use usernet::{SocketInfo, SocketWatch, State};

/// Collects rows.
pub struct Life {
    watch: SocketWatch,
    rows: Vec<Row>,
    began: Instant,
    /// A row each time this many bytes more have arrived.
    step: u64,
}

struct Row {
    micros: u128,
    what: String,
    info: SocketInfo,
}

impl Life {
    pub fn new(watch: SocketWatch, step: u64) -> Life {
        Life { watch, rows: Vec::new(), began: Instant::now(), step: step.max(1) }
    }

    /// Adds a row whatever the state is.
    pub fn note(&mut self, what: impl Into<String>) {
        self.push(what.into(), self.watch.info());
    }

    /// Adds a row if the state has changed or much has arrived since the last row.
    fn look(&mut self, what: &str) {
        let info = self.watch.info();
        let Some(last) = self.rows.last() else { return self.push(what.to_owned(), info) };
        if last.info.state != info.state {
            self.push(what.to_owned(), info);
        } else if info.bytes_received / self.step > last.info.bytes_received / self.step {
            self.push(format!("{} bytes received", info.bytes_received), info);
        }
    }

    fn push(&mut self, what: String, info: SocketInfo) {
        let micros = self.began.elapsed().as_micros();
        self.rows.push(Row { micros, what, info });
    }

    /// Polls `work` and looks at the socket whenever the reactor may have had a turn. For a runtime of one thread: there
    /// this task and the reactor take turns.
    pub async fn during<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            self.look(what);
            // Not `yield_now`: that lets the driver go first, and the answer to our SYN is there already.
            cx.waker().wake_by_ref();
            polled
        })
        .await
    }

    /// Whether every row shows the same two buffers at the same addresses and with the same capacities.
    pub fn buffers_unchanged(&self) -> bool {
        let buffers =
            |info: &SocketInfo| [info.send_buffer, info.recv_buffer].map(|buffer| (buffer.address, buffer.capacity));
        let Some(first) = self.rows.first().map(|row| buffers(&row.info)) else { return false };
        let [send, recv] = first;
        send.1 > 0 && recv.1 > 0 && self.rows.iter().all(|row| buffers(&row.info) == first)
    }

    /// Prints the table.
    pub fn print(&self) {
        println!(
            "{:>9}  {:<12} {:<34} {:<34} {:>10} {:>10} {:>8} {:>8}  event",
            "time",
            "state",
            "send buffer: address size fill",
            "recv buffer: address size fill",
            "ISS",
            "IRS",
            "snd.wnd",
            "rcv.wnd"
        );
        for Row { micros, what, info } in &self.rows {
            let [send, recv] = [info.send_buffer, info.recv_buffer]
                .map(|buffer| format!("{:#014x} {:>8} {:>8}", buffer.address, buffer.capacity, buffer.fill));
            let [iss, irs] =
                [info.iss, info.irs].map(|number| number.map_or_else(|| "-".to_owned(), |number| number.to_string()));
            println!(
                "{:>6}.{:02}ms  {:<12} {send:<34} {recv:<34} {iss:>10} {irs:>10} {:>8} {:>8}  {what}",
                micros / 1_000,
                micros % 1_000 / 10,
                name(info.state),
                info.snd_wnd,
                info.rcv_wnd,
            );
        }
    }
}

/// The RFC's spelling.
fn name(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}
