use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use proptest::prelude::*;

use super::packet::{Fresh, ID_BYTES};
use super::*;

const C2S: [u8; KEY_BYTES] = [1; KEY_BYTES];
const S2C: [u8; KEY_BYTES] = [2; KEY_BYTES];

fn fresh() -> Fresh {
    Fresh {
        origin: 7,
        id: [3; ID_BYTES],
        nonce: [4; 16],
    }
}

fn record(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn offer() -> Vec<Vec<u8>> {
    vec![
        record(0x8001, &[0, 0]),
        record(0x0004, &[0, 15]),
        record(0x0005, &[9; 100]),
        record(0x0005, &[8; 100]),
        record(0x0006, b"ntp.example"),
        record(0x0007, &[0, 124]),
        record(0x8000, &[]),
    ]
}

#[test]
fn an_offer_is_read_to_its_end() {
    let bytes = offer().concat();
    let read = ke::read(&bytes).unwrap();
    assert_eq!(read.cookies, [vec![9; 100], vec![8; 100]]);
    assert_eq!(read.server.as_deref(), Some("ntp.example"));
    assert_eq!(read.port, Some(124));
    assert!(ke::is_complete(&bytes));
    for cut in 0..bytes.len() {
        assert!(!ke::is_complete(&bytes[..cut]), "{cut}");
        assert!(ke::read(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(ke::is_complete(&ke::request()));
}

#[test]
fn an_offer_that_lacks_or_adds_something_is_refused() {
    let without = |n: usize| {
        let mut all = offer();
        all.remove(n);
        ke::read(&all.concat()).unwrap_err()
    };
    assert_eq!(without(0), NtsError::Unsupported);
    assert_eq!(without(1), NtsError::Unsupported);
    assert!(matches!(without(6), NtsError::Malformed(_)));
    let no_cookie = [&offer()[..2], &offer()[6..]].concat().concat();
    assert_eq!(ke::read(&no_cookie), Err(NtsError::NoCookie));
    let with = |record: Vec<u8>| {
        let mut all = offer();
        all.insert(2, record);
        ke::read(&all.concat())
    };
    assert_eq!(with(record(0x8002, &[0, 1])), Err(NtsError::Refused(1)));
    assert!(with(record(0x8003, &[0, 1])).is_err());
    assert!(with(record(0x8044, &[])).is_err());
    assert!(with(record(0x0044, &[1, 2, 3])).is_ok());
    assert!(with(record(0x0005, &[])).is_err());
    assert!(with(record(0x0005, &[0; 641])).is_err());
    assert!(with(record(0x0006, b"a b")).is_err());
    let many = std::iter::repeat_n(record(5, &[1; 8]), 100).collect::<Vec<_>>();
    assert_eq!(with(many.concat()).unwrap().cookies.len(), 8);
}

/// What an honest server answers: header, identifier, sealed cookies.
fn answer(id: &[u8], key: &[u8; KEY_BYTES]) -> Vec<u8> {
    let mut packet = vec![0x24; 48];
    packet.extend([1, 4, 0, 36]);
    packet.extend(id);
    let nonce = [5_u8; 16];
    let headers: [&[u8]; 2] = [&packet, &nonce];
    let mut siv = Aes128Siv::new(&(*key).into());
    let sealed = siv.encrypt(headers, b"a cookie in here").unwrap();
    packet.extend([4, 4, 0, 56, 0, 16, 0, 32]);
    packet.extend(nonce);
    packet.extend(sealed);
    packet
}

fn verify(reply: &[u8]) -> Result<[u8; 48], NtsError> {
    let request = packet::request(&fresh(), &[6; 100], &C2S).unwrap();
    packet::verify(reply, &request, &fresh().id, &S2C)
}

#[test]
fn a_request_is_sealed_over_all_that_is_before_the_seal() {
    let request = packet::request(&fresh(), &[6; 100], &C2S).unwrap();
    assert_eq!(request.len(), 48 + 36 + 104 + 40);
    assert_eq!(request[40..48], 7_u64.to_be_bytes());
    let mut siv = Aes128Siv::new(&C2S.into());
    let headers: [&[u8]; 2] = [&request[..188], &fresh().nonce];
    assert!(siv.decrypt(headers, &request[212..]).is_ok());
}

#[test]
fn only_the_servers_own_answer_to_this_request_is_believed() {
    let good = answer(&fresh().id, &S2C);
    assert_eq!(verify(&good).unwrap(), [0x24; 48]);
    assert_eq!(verify(&answer(&[0; 32], &S2C)), Err(NtsError::Identifier));
    assert_eq!(
        verify(&answer(&fresh().id, &C2S)),
        Err(NtsError::Authenticator)
    );
    assert_eq!(verify(&[0x24; 48]), Err(NtsError::Identifier));
    assert_eq!(verify(&good[..84]), Err(NtsError::Authenticator));
    for byte in 0..good.len() {
        let mut changed = good.clone();
        changed[byte] ^= 1;
        assert!(verify(&changed).is_err(), "byte {byte} is not covered");
    }
    for cut in 0..good.len() {
        assert!(verify(&good[..cut]).is_err(), "cut at {cut}");
    }
    let behind = [&good[..], &[1, 4, 0, 16], &[0; 12]].concat();
    assert_eq!(
        verify(&behind).unwrap(),
        [0x24; 48],
        "what is behind the seal is not read"
    );
    let amplified = [&good[..], &[0; 400]].concat();
    assert!(matches!(verify(&amplified), Err(NtsError::Malformed(_))));
    let mut nak = good[..84].to_vec();
    nak[1] = 0;
    nak[12..16].copy_from_slice(b"NTSN");
    assert_eq!(verify(&nak), Err(NtsError::Nak));
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ke::read(&bytes);
        let _ = ke::is_complete(&bytes);
        prop_assert!(verify(&bytes).is_err());
        let after_header = [&answer(&fresh().id, &S2C)[..84], &bytes].concat();
        prop_assert!(verify(&after_header).is_err());
    }
}
