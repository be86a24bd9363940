"""Writes the first seeds of corpus/tcb_ops: python3 fuzz/seeds_tcb_ops.py. A seed is setup, sizes, ISNs, then operations
(tests/fuzz_bodies/tcb_ops.rs)."""
import os

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "tcb_ops")
SYN, SYNACK, ACK, ACKFIN = 0, 1, 2, 3
PLAIN, FULL = 0x04, 0x7C
hs = lambda kind, bits=PLAIN: bytes([29, kind | bits])
text = lambda n: bytes([30, n]) if n < 0xA0 else bytes([30, 0xA0 | n >> 8, n & 255])
seg = lambda flags, bits, *rest: bytes([0, flags, bits, *rest])
write = lambda n: bytes([16, n]) if n < 0xA0 else bytes([16, 0xA0 | n >> 8, n & 255])
READ, SHUT, DROP, ABORT, NEXT, CONNECT = bytes([18, 0xA8, 0]), b"\x14", b"\x15", b"\x16", b"\x18\0", b"\x1f"
ack = seg(0x10, 0, 0, 0)
opened = lambda setup=0, sizes=0, isn=0, bits=PLAIN: bytes([setup, sizes, isn]) + hs(SYN, bits) + hs(ACK, bits & 0x20)
active = lambda setup=2, sizes=0, isn=0, bits=PLAIN: bytes([setup, sizes, isn]) + hs(SYNACK, bits)
SEEDS = {
    "passive_echo": opened() + text(100) + READ + write(100) + ack + SHUT + ack + hs(ACKFIN),
    "active_echo": active() + write(100) + ack + text(100) + READ + DROP + hs(ACKFIN) + NEXT,
    "v6_all_options": opened(1 | 4 | 8 | 16, 0x78, 0, FULL) + text(1400) + text(1400) + READ + write(2000) + hs(ACK, 0x20),
    "isn_at_the_wrap": opened(0, 0x28, 0x36) + write(3000) + ack + text(1000) + text(1000) + READ,
    "holes": opened(8, 0x50) + b"".join(seg(0x10, 0x10, d, 0, 9) for d in (40, 80, 20, 60, 10)) + text(100) + READ,
    "holes_in_one_turn": opened(8, 0x50) + b"".join(b"\x80" + seg(0x10, 0x10, d, 0, 9)[1:] for d in (40, 80, 20)) + text(50),
    "duplicate_acks": opened(0, 0x78) + write(0x1F00) + ack * 5 + NEXT * 3 + ack,
    "retransmissions": opened() + write(1000) + NEXT * 20,
    "zero_window": opened() + seg(0x10, 0x20, 0, 0, 0) + write(100) + NEXT * 5 + seg(0x10, 0x20, 0, 0, 0) + NEXT * 3 + ack,
    "simultaneous_open": bytes([2, 0, 0]) + hs(SYN) + hs(SYNACK) + write(10) + text(10),
    "simultaneous_close": opened() + SHUT + seg(0x11, 0, 0, 1) + ack + hs(SYN),
    "resets": opened() + seg(0x04, 0, 20, 0) + seg(0x04, 0, 1, 0) + seg(0x02, 0, 0, 0) + seg(0x04, 0, 0, 0),
    "drop_unread": opened() + text(50) + DROP + text(50),
    "orphan": opened() + write(1000) + DROP + NEXT * 30,
    "keepalive": opened() + bytes([23, 4]) + NEXT * 15,
    "user_timeout": opened() + bytes([23, 0x70]) + write(10) + NEXT * 5,
    "icmp": active() + write(1000) + bytes([27, 3, 2, 0xA2, 0x58]) + bytes([27, 2, 2, 0]) + bytes([27, 0, 0, 0]) + NEXT,
    "time_wait_reuse": opened() + SHUT + ack + hs(ACKFIN) + seg(0x02, 0, 100, 0) + hs(ACK),
    "window_shrinks": opened(0, 0x78) + write(0x1800) + seg(0x10, 0x20, 0, 0, 1) + NEXT + seg(0x10, 0x20, 0, 0, 0) + NEXT + ack,
    "little_budget": opened(0x60, 0x78) + write(0x1F00) + text(2000) + READ + ack + text(2000) + READ,
    "large_segments": opened(0x80 | 16, 0x78, 0, FULL) + write(0x1F00) + ack + write(0x1F00) + ack,
    "connect_twice": active() + ABORT + DROP + CONNECT + hs(SYNACK) + write(5),
    "tiny_mss": bytes([4, 3, 0]) + hs(SYN, 0x20) + hs(ACK, 0x20) + write(500) + NEXT * 3,
    "garbage": opened() + bytes([28, 4, 0x45, 0, 0, 20]) + bytes([28, 1, 0x60]),
}
os.makedirs(root, exist_ok=True)
for name, data in SEEDS.items():
    with open(os.path.join(root, name), "wb") as file:
        file.write(data)
