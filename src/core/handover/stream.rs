//! Parts of a stream: tar entries, lines of JSON.

use tar::{EntryType, Header};

use super::{Authority, Leaf};
use crate::core::bundle::{CA_BUNDLE, CERTIFICATE, CHAIN, KEY, Secrecy};
use crate::core::ids::hex;
use crate::core::pem;
use crate::core::time::Validity;

/// tar's unit of length.
const RECORD: usize = 512;

/// `NAME/` and its four PEM files.
pub(super) fn tar(authority: &Authority, leaf: &Leaf<'_>, block: &mut Vec<u8>) {
    let mut header = Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(leaf.validity.not_before.unix()).unwrap_or(0));
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o700);
    header.set_size(0);
    put_name(&mut header, leaf.name.as_bytes(), b"");
    block.extend_from_slice(header.as_bytes());
    header.set_entry_type(EntryType::Regular);
    let certificate = pem::encode("CERTIFICATE", leaf.der);
    let key = leaf.key.to_pem();
    let files: [(&str, Secrecy, [&str; 2]); 4] = [
        (KEY, Secrecy::Private, [&key, ""]),
        (CERTIFICATE, Secrecy::Public, [&certificate, ""]),
        (
            CHAIN,
            Secrecy::Public,
            [&certificate, &authority.below_root],
        ),
        (CA_BUNDLE, Secrecy::Public, [&authority.all, ""]),
    ];
    for (name, secrecy, [front, back]) in files {
        let length = front.len() + back.len();
        header.set_mode(secrecy.mode());
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.size = octal(length);
        }
        put_name(&mut header, leaf.name.as_bytes(), name.as_bytes());
        block.extend_from_slice(header.as_bytes());
        block.extend_from_slice(front.as_bytes());
        block.extend_from_slice(back.as_bytes());
        block.resize(block.len() + (RECORD - length % RECORD) % RECORD, 0);
    }
}

/// A number as ustar has it: octal digits and a zero byte. Each file has two, and formatting them
/// costs more than the rest of its header.
fn octal<const N: usize>(mut size: usize) -> [u8; N] {
    let mut field = [b'0'; N];
    field[N - 1] = 0;
    for digit in field[..N - 1].iter_mut().rev() {
        *digit += u8::try_from(size & 7).unwrap_or_default();
        size >>= 3;
    }
    field
}

/// The path, split where ustar splits it: a device's name fits into the prefix, which holds 155.
fn put_name(header: &mut Header, folder: &[u8], file: &[u8]) {
    let Some(ustar) = header.as_ustar_mut() else {
        return;
    };
    ustar.name = [0; 100];
    ustar.prefix = [0; 155];
    let length = folder.len() + 1 + file.len();
    if length <= ustar.name.len() {
        ustar.name[..folder.len()].copy_from_slice(folder);
        ustar.name[folder.len()] = b'/';
        ustar.name[folder.len() + 1..length].copy_from_slice(file);
    } else {
        // A folder of its own has no last part: `.` is the folder itself.
        let file = if file.is_empty() { b"." } else { file };
        let folder = &folder[..folder.len().min(ustar.prefix.len())];
        ustar.prefix[..folder.len()].copy_from_slice(folder);
        ustar.name[..file.len()].copy_from_slice(file);
    }
    set_checksum(header);
}

/// The sum of the header's bytes, its own field taken as spaces: seven octal digits and a zero byte.
fn set_checksum(header: &mut Header) {
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.cksum = [b' '; 8];
    }
    let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.cksum = octal(sum as usize);
    }
}

#[derive(serde::Serialize)]
struct Line<'a> {
    name: &'a str,
    certificate_id: &'a str,
    serial: String,
    #[serde(flatten)]
    validity: Validity,
    private_key_pem: &'a str,
    certificate_pem: &'a str,
    chain_pem: String,
    ca_pem: &'a str,
}

/// One object, one line.
pub(super) fn ndjson(authority: &Authority, leaf: &Leaf<'_>, block: &mut Vec<u8>) {
    let certificate = pem::encode("CERTIFICATE", leaf.der);
    let key = leaf.key.to_pem();
    let line = Line {
        name: leaf.name,
        certificate_id: leaf.id.as_str(),
        serial: hex(leaf.serial),
        validity: leaf.validity,
        private_key_pem: &key,
        certificate_pem: &certificate,
        chain_pem: [&certificate[..], &authority.below_root].concat(),
        ca_pem: &authority.all,
    };
    // Text and numbers only: nothing that JSON cannot hold.
    let _ = serde_json::to_writer(&mut *block, &line);
    block.push(b'\n');
}
