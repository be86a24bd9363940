//! TCP option bytes: whatever is accepted says the same after being written again.

use usernet::internals::wire::{MAX_OPTIONS, emit_options, options_len, parse_options};

/// `data` is the option field; libFuzzer may make it longer than a header can be.
pub fn run(data: &[u8]) {
    let Ok(options) = parse_options(data) else { return };
    assert!(options.window_scale.is_none_or(|shift| shift <= 14), "{options:?}");
    assert_ne!(options.mss, Some(0));

    let mut out = [0xee; MAX_OPTIONS];
    let len = emit_options(&options, &mut out);
    assert_eq!(len, options_len(&options), "{options:?}");
    assert_eq!(len % 4, 0, "{options:?}");
    let (written, untouched) = out.split_at(len);
    assert!(untouched.iter().all(|&byte| byte == 0xee), "bytes past the length were written: {options:?}");

    let again = parse_options(written).expect("what we write is well formed");
    // Padding may cost SACK blocks their place, from the end.
    let mut expected = options;
    expected.sack.truncate(again.sack.as_slice().len());
    assert_eq!(again, expected);
    let lost = options.sack.as_slice().len() - again.sack.as_slice().len();
    assert!(lost == 0 || len + 8 > MAX_OPTIONS, "{lost} blocks left out with {len} bytes used: {options:?}");
    assert!(
        lost == 0
            || data.len() > MAX_OPTIONS
            || options.mss.is_some()
            || options.window_scale.is_some()
            || options.sack_permitted,
        "an ACK's blocks were left out: {options:?}"
    );
}
