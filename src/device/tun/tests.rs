use std::net::IpAddr;

use super::*;

fn refused(builder: TunBuilder) -> String {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

#[test]
fn bad_wishes_are_refused_before_anything_is_created() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(refused(Tun::builder().name("sixteen-bytes-xy")).contains("at most 15"));
    for name in ["", ".", "..", "a/b", "a b", "a:b"] {
        assert!(refused(Tun::builder().name(name)).contains("cannot be the name"));
    }
    assert!(refused(Tun::builder().mtu(67)).contains("below 68"));
    assert!(refused(Tun::builder().mtu(65_536)).contains("above 65535"));
    assert!(refused(Tun::builder().mtu(1_279).kernel_address(ip("fd00::1"), 64)).contains("below 1280"));
    assert!(refused(Tun::builder().kernel_address(ip("10.0.0.1"), 33)).contains("above 32"));
    assert!(refused(Tun::builder().kernel_address(ip("::"), 64)).contains("cannot be the address"));
}

#[test]
fn a_descriptor_that_is_no_tun_is_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Tun::from_fd(file.into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TUNGETIFF"), "{error}");
}
