//! Fuzz body: a byte ring against a `VecDeque`, driven by operations read from the input.

use std::collections::VecDeque;

use usernet::internals::pipe::{Consumer, Producer, Region, Rings, rings_at};

/// What the ring must look like.
struct Model {
    /// Published and not consumed.
    queue: VecDeque<u8>,
    /// Written beyond the tail, by offset.
    beyond: VecDeque<Option<u8>>,
    capacity: usize,
    /// Bytes of the buffer in use.
    span: usize,
}

impl Model {
    fn free(&self) -> usize {
        self.span - self.queue.len()
    }

    fn write_at(&mut self, offset: usize, data: &[u8]) {
        if self.beyond.len() < offset + data.len() {
            self.beyond.resize(offset + data.len(), None);
        }
        for (place, byte) in self.beyond.iter_mut().skip(offset).zip(data) {
            *place = Some(*byte);
        }
    }

    /// Even sizes are the send ring's; the other ring of the region has a byte.
    fn is_send_ring(&self) -> bool {
        self.capacity.is_multiple_of(2)
    }

    /// Bytes beyond the tail without a gap.
    fn in_order(&self) -> usize {
        self.beyond.iter().take_while(|byte| byte.is_some()).count()
    }

    fn publish(&mut self, n: usize) {
        self.queue.extend(self.beyond.drain(..n).flatten());
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }
}

/// Runs one input; panics if the ring and the model disagree.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let capacity = match input.byte() {
        0 => 9_000,
        small => small.div_ceil(4),
    };
    let start = (input.byte() as u64) << (input.byte() % 55);
    let mut model = Model { queue: VecDeque::new(), beyond: VecDeque::new(), capacity, span: capacity };
    let (send, recv) = if model.is_send_ring() { (capacity, 1) } else { (1, capacity) };
    let Rings { send_producer, send_consumer, recv_producer, recv_consumer, .. } =
        rings_at(Region::map(send, recv).expect("a small mapping"), start);
    let (mut producer, mut consumer) =
        if model.is_send_ring() { (send_producer, send_consumer) } else { (recv_producer, recv_consumer) };
    let mut fresh = 0_u8;
    while !input.0.is_empty() {
        step(&mut input, &mut model, (&mut producer, &mut consumer), &mut fresh);
        compare(&model, &producer, &consumer);
    }
}

fn step(input: &mut Input<'_>, model: &mut Model, ring: (&mut Producer, &mut Consumer), fresh: &mut u8) {
    let (producer, consumer) = ring;
    let operation = input.byte();
    let scale = if model.capacity > 64 { 40 } else { 1 };
    let (a, b) = (input.byte() * scale, input.byte() * scale);
    let mut bytes = |n: usize| -> Vec<u8> {
        let run = (0..n).map(|i| fresh.wrapping_add(i as u8)).collect();
        *fresh = fresh.wrapping_add(n as u8).wrapping_add(1);
        run
    };
    match operation % 10 {
        // `write` is the user's call: it never leaves bytes beyond the tail.
        0 if model.beyond.is_empty() => {
            let data = bytes(a);
            let fits = a.min(model.free());
            assert_eq!(producer.write(&data), fits);
            model.queue.extend(data.iter().take(fits));
        }
        0 | 1 => {
            let offset = a % (model.free() + 1);
            let data = bytes(b % (model.free() - offset + 1));
            assert!(producer.claim(), "the consumer is not trimming");
            producer.write_at(offset, &data);
            if !data.is_empty() {
                model.write_at(offset, &data);
            }
        }
        2 => {
            let n = a.min(model.in_order());
            assert!(producer.claim(), "the consumer is not trimming");
            producer.publish(n);
            model.publish(n);
        }
        3 => {
            consumer.consume(a);
            model.queue.drain(..a.min(model.queue.len()));
        }
        4 => {
            let expected: Vec<u8> = model.queue.iter().skip(a).take(b).copied().collect();
            assert_eq!(consumer.slices(a, b).concat(), expected);
        }
        5 => {
            assert!(producer.claim(), "the consumer is not trimming");
            producer.rewind();
            if model.queue.is_empty() && model.beyond.is_empty() {
                let address = producer.info().address;
                let [first, second] = producer.free_slices(0, usize::MAX);
                assert_eq!((first.as_ptr().addr(), second.len()), (address, 0), "not rewound");
            }
        }
        6 => {
            assert!(producer.claim(), "the consumer is not trimming");
            assert_eq!(producer.trim(), model.queue.is_empty() && model.beyond.is_empty());
        }
        // The consumer trims a send ring, whose producer leaves nothing beyond the tail.
        7 => {
            if model.beyond.is_empty() {
                producer.release();
                assert_eq!(consumer.trim(), model.is_send_ring() && model.queue.is_empty());
            }
        }
        8 => {
            let (wanted, before) = (a.clamp(1, model.capacity), model.span);
            producer.fit(a);
            model.span = producer.span();
            // What is in the buffer may keep it from it; an empty send ring is always free to.
            let is_free = model.is_send_ring() && model.queue.is_empty() && model.beyond.is_empty();
            assert!(model.span == wanted || model.span == before && !is_free, "{} is not {wanted}", model.span);
        }
        _ => {
            assert!(producer.claim(), "the consumer is not trimming");
            let data = bytes(a.min(model.free()));
            let [first, second] = producer.free_slices(0, a);
            assert_eq!(first.len() + second.len(), data.len());
            let (head, rest) = data.split_at(first.len());
            first.copy_from_slice(head);
            second.copy_from_slice(rest);
            model.write_at(0, &data);
            producer.publish(data.len());
            model.publish(data.len());
        }
    }
}

fn compare(model: &Model, producer: &Producer, consumer: &Consumer) {
    assert_eq!((producer.len(), consumer.len()), (model.queue.len(), model.queue.len()));
    assert_eq!(producer.free(), model.free());
    assert_eq!((producer.is_empty(), consumer.capacity()), (model.queue.is_empty(), model.capacity));
    assert_eq!(producer.info(), consumer.info());
    assert_eq!(producer.info().fill, model.queue.len());
    let [first, second] = consumer.slices(0, usize::MAX);
    assert!(first.iter().chain(second).eq(&model.queue), "contents differ");
}
