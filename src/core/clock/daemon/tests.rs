use proptest::prelude::*;

use super::*;

/// `chronyc tracking` of a clock 1.5 s slow at stratum 3, root delay 20 ms, root dispersion 1 ms.
fn tracking(sequence: u32) -> Vec<u8> {
    let mut reply = vec![0; 104];
    reply[0] = 6;
    reply[1] = 2;
    reply[5] = 33;
    reply[7] = 5;
    reply[16..20].copy_from_slice(&sequence.to_be_bytes());
    reply[28 + 25] = 3;
    let mut float = |at: usize, exponent: i32, coefficient: i32| {
        let word = (exponent << 25) | (coefficient & 0x01ff_ffff);
        reply[28 + at..28 + at + 4].copy_from_slice(&word.to_be_bytes());
    };
    float(40, 2, 3 << 22);
    float(64, -4, 10_737_418);
    float(68, -8, 8_589_934);
    reply
}

#[test]
fn chronyds_tracking_is_read() {
    let says = chrony::read(&tracking(7), 7).unwrap();
    assert!(says.synchronised);
    assert_eq!(says.stratum, Some(3));
    assert_eq!(says.correction_nanos, 1_500_000_000);
    let error = says.error_nanos.unwrap();
    assert!((10_900_000..11_100_000).contains(&error), "{error}");
    assert_eq!(chrony::request(7).len(), 104);
}

#[test]
fn chronyds_refusals_and_other_answers_are_named() {
    let spoilt = |at: usize, byte: u8| {
        let mut reply = tracking(7);
        reply[at] = byte;
        chrony::read(&reply, 7).unwrap_err()
    };
    assert_eq!(spoilt(9, 6), DaemonError::Refused(6));
    for (at, byte) in [(0, 5), (1, 1), (5, 34), (7, 6), (19, 8)] {
        assert!(matches!(spoilt(at, byte), DaemonError::Protocol(_)), "{at}");
    }
    assert!(chrony::read(&tracking(7)[..103], 7).is_err());
    let mut lost = tracking(7);
    lost[28 + 27] = 3;
    let mut own = tracking(7);
    own[28..32].copy_from_slice(&[127, 127, 1, 1]);
    for reply in [lost, own] {
        assert!(!chrony::read(&reply, 7).unwrap().synchronised);
    }
}

fn variables(status: u16, text: &str) -> Vec<u8> {
    let mut reply = vec![0x16, 0x82, 0, 9];
    reply.extend(status.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    reply.extend(text.as_bytes());
    reply
}

#[test]
fn ntpds_variables_are_read() {
    let text = "leap=00, stratum=2, rootdelay=10.5, rootdisp=3.25,\r\noffset=-0.5";
    let says = ntpd::read(&variables(0x0615, text), 9).unwrap();
    assert!(says.synchronised);
    assert_eq!(says.correction_nanos, -500_000);
    assert_eq!(says.error_nanos, Some(8_500_000));
    for (status, text) in [
        (0xc016, text),
        (0x0615, "leap=11, stratum=2"),
        (0x0615, "stratum=16"),
        (0x0615, "leap=00, stratum=5, refid=127.0.0.1"),
        (0x0615, "leap=00, stratum=5, refid=LOCAL"),
    ] {
        assert!(
            !ntpd::read(&variables(status, text), 9)
                .unwrap()
                .synchronised,
            "{text}"
        );
    }
    assert!(ntpd::read(&variables(0x0615, text), 8).is_err());
    assert!(ntpd::read(&variables(0x0615, "version=1"), 9).is_err());
    let mut refused = variables(0x0300, "");
    refused[1] |= 0x40;
    assert_eq!(ntpd::read(&refused, 9), Err(DaemonError::Refused(3)));
}

#[test]
fn both_forms_of_ntpd_rs_are_read() {
    let one = r#"{"system":{"stratum":3,"precision":3.8e-6,"root_delay":0.01,
        "root_variance_base":1e-6,"root_variance_linear":0,"root_variance_quadratic":0,
        "root_variance_cubic":0,"leap_indicator":"NoWarning"}}"#;
    let mut framed = (one.len() as u64).to_be_bytes().to_vec();
    framed.extend(one.as_bytes());
    for bytes in [&framed[..], one.as_bytes()] {
        let says = ntpd_rs::read(bytes).unwrap();
        assert!(says.synchronised);
        assert_eq!(says.error_nanos, Some(9_000_000));
    }
    let two = r#"{"system":{"stratum":2,"root_delay":{"upper":0,"lower":184467440737095516},
        "root_variance_base":1e-6,"leap_indicator":"None"}}"#;
    assert_eq!(
        ntpd_rs::read(two.as_bytes()).unwrap().error_nanos,
        Some(9_000_000)
    );
    for (lost, with) in [
        ("\"None\"", "null"),
        ("\"None\"", "\"Unknown\""),
        (":2,", ":16,"),
    ] {
        let text = two.replacen(lost, with, 1);
        assert!(
            !ntpd_rs::read(text.as_bytes()).unwrap().synchronised,
            "{with}"
        );
    }
    for bad in [&b""[..], b"{}", b"12345678", b"\0\0\0\0\0\0\0\x02[]"] {
        assert!(ntpd_rs::read(bad).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..4) {
        let mut bytes = bytes;
        let heads: [&[u8]; 4] = [&[6, 2, 0, 0, 0, 33, 0, 5], &[0x16, 0x82, 0, 9], b"{\"system\":", b""];
        let head = heads[at];
        if bytes.len() >= head.len() {
            bytes[..head.len()].copy_from_slice(head);
        }
        let _ = chrony::read(&bytes, 0);
        let _ = ntpd::read(&bytes, 9);
        let _ = ntpd_rs::read(&bytes);
    }

    #[test]
    fn any_body_of_a_true_header_is_taken(body in prop::collection::vec(any::<u8>(), 76)) {
        let mut reply = tracking(0);
        reply[28..].copy_from_slice(&body);
        let says = chrony::read(&reply, 0).unwrap();
        prop_assert!(says.error_nanos.is_none_or(|error| error >= 0));
    }
}
