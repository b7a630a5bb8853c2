//! Certificates of every profile, key and signer, read by programs that nobody here wrote: OpenSSL,
//! GnuTLS, Python's `cryptography`, webpki and pkilint.

use std::path::Path;
use std::process::Command;

use nameplate::core::cert::Certificate;
use nameplate::core::der;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::crl::python;
use crate::kms::Moto;
use crate::pkcs11::Lab;
use crate::project::tool;

/// A project whose CAs' keys are in files, in a token and in KMS.
struct Matrix {
    lab: Lab,
    moto: Moto,
}

/// A CA's name and where its key is made.
const AUTHORITIES: [(&str, &[&str]); 8] = [
    ("file-p256", &["--curve", "p256"]),
    ("file-p384", &["--curve", "p384"]),
    ("file-rsa", &[]),
    (
        "token-p256",
        &["--key", "pkcs11:token=factory;object=a", "--generate-key"],
    ),
    (
        "token-p384",
        &[
            "--key",
            "pkcs11:token=factory;object=b",
            "--generate-key",
            "--curve",
            "p384",
        ],
    ),
    ("token-rsa", &["--key", "pkcs11:token=factory;object=r"]),
    ("kms-p256", &["--key", "awskms:alias/a", "--generate-key"]),
    (
        "kms-p384",
        &[
            "--key",
            "awskms:alias/b",
            "--generate-key",
            "--curve",
            "p384",
        ],
    ),
];
const CURVES: [&str; 2] = ["p256", "p384"];
/// Each CA's place, in words of one length.
const PLACE: [&str; 8] = [
    "file", "file", "file", "card", "card", "card", "kms_", "kms_",
];

/// Names of one length whatever signs, so that nothing else moves.
fn device(n: usize, place: &str, profile: &str, curve: &str) -> String {
    format!("d{n}-{place}-{profile}-{curve}")
}

impl Matrix {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command
            .env("AWS_ENDPOINT_URL_KMS", &self.moto.url)
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_REGION", "eu-west-1");
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> serde_json::Value {
        let args = [&["--format", "json"], args].concat();
        let output = self.command(&args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn root(&self) -> &Path {
        self.lab.project.root()
    }

    /// A root, and one CA below it.
    fn authority(&self, name: &str, key: &[&str]) {
        let below = format!("{name}-line");
        if name == "file-rsa" {
            let said = "openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.pem \
                        -days 3650 -subj /CN=Matrix -addext keyUsage=critical,keyCertSign,cRLSign \
                        -sha256";
            let words: Vec<&str> = said.split_whitespace().skip(1).collect();
            tool("openssl", &words, self.root());
            self.ok(&[
                "ca", "import", name, "--cert", "rsa.pem", "--key", "rsa.key",
            ]);
        } else {
            let create = ["ca", "create", name, "--subject", "CN=Matrix"];
            self.ok(&[&create[..], key].concat());
        }
        self.ok(&["ca", "create", &below, "--parent", name]);
    }

    /// Every profile for devices.
    fn profiles(&self) -> Vec<String> {
        let listed = self.ok(&["profile", "list"]);
        let all = listed["profiles"].as_array().unwrap();
        let names = all
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        names.filter(|name| !name.ends_with("-ca")).collect()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.root().join(file)).unwrap()
    }

    fn openssl(&self, root: &str, device: &str) {
        let chain = format!("devices/{device}/chain.pem");
        let leaf = format!("devices/{device}/device.crt.pem");
        let words = [
            "verify",
            "-x509_strict",
            "-CAfile",
            root,
            "-untrusted",
            &chain,
            &leaf,
        ];
        let said = tool("openssl", &words, self.root());
        assert!(said.contains("OK"), "{said}");
    }

    fn certtool(&self, root: &str, device: &str) {
        let chain = format!("devices/{device}/chain.pem");
        let words = [
            "--verify",
            "--load-ca-certificate",
            root,
            "--infile",
            &chain,
        ];
        let said = tool("certtool", &words, self.root());
        assert!(
            said.contains("The certificate is trusted"),
            "{device}: {said}"
        );
    }

    /// A revocation list by the same key; of the issuer's, and OpenSSL refuses what is on it.
    fn revokes(&self, ca: &str, device: &str) {
        self.ok(&["device", "revoke", device, "--local", "--yes"]);
        self.ok(&["ca", "crl", ca]);
        let (root, list) = (format!("ca/{ca}/cert.pem"), format!("ca/{ca}/crl.pem"));
        let words = ["crl", "-in", &list, "-noout", "-CAfile", &root];
        tool("openssl", &words, self.root());
        let output = Command::new("openssl")
            .args(["verify", "-crl_check", "-CAfile", &root, "-CRLfile", &list])
            .arg(format!("devices/{device}/device.crt.pem"))
            .current_dir(self.root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("certificate revoked"), "{ca}: {said}");
    }

    fn webpki(&self, root: &str, device: &str, usage: KeyUsage) {
        let root = Certificate::all_from_pem(&self.read(root))
            .unwrap()
            .remove(0);
        let root = CertificateDer::from(root.der());
        let anchor = anchor_from_trusted_cert(&root).unwrap();
        let chain = self.read(&format!("devices/{device}/chain.pem"));
        let chain = Certificate::all_from_pem(&chain).unwrap();
        let above: Vec<_> = chain[1..].iter().map(|one| one.der().into()).collect();
        let leaf = CertificateDer::from(chain[0].der());
        EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &above,
                UnixTime::now(),
                usage,
                None,
                None,
            )
            .unwrap_or_else(|error| panic!("{device}: {error}"));
    }
}

#[test]
fn every_program_takes_every_certificate() {
    let matrix = Matrix {
        lab: Lab::new(),
        moto: Moto::start(),
    };
    matrix.lab.keygen("rsa:2048", "r", "72");
    let profiles = matrix.profiles();
    assert!(profiles.len() >= 3, "{profiles:?}");
    let mut read = Vec::new();
    for (n, (ca, key)) in AUTHORITIES.into_iter().enumerate() {
        matrix.authority(ca, key);
        let root = format!("ca/{ca}/cert.pem");
        read.extend(["--".to_owned(), root.clone()]);
        let line = format!("{ca}-line");
        for (profile, curve) in profiles
            .iter()
            .flat_map(|one| CURVES.map(|curve| (one, curve)))
        {
            let usage = if profile == "server" {
                KeyUsage::server_auth
            } else {
                KeyUsage::client_auth
            };
            for (place, signer) in [(PLACE[n], ca), ("line", &line)] {
                let device = device(n, place, profile, curve);
                let shape = ["--cert-profile", profile, "--curve", curve, "--ca", signer];
                let host: &[&str] = if profile == "server" {
                    &["--set", "host=broker.example.com"]
                } else {
                    &[]
                };
                matrix.ok(&[&["device", "issue", &device], &shape[..], host].concat());
                matrix.openssl(&root, &device);
                matrix.certtool(&root, &device);
                matrix.webpki(&root, &device, usage());
                read.push(format!("devices/{device}"));
            }
        }
        matrix.revokes(ca, &device(n, PLACE[n], "device", "p256"));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_identities.py");
    let mut words = vec![script.to_str().unwrap()];
    words.extend(read[1..].iter().map(String::as_str));
    let said = tool(&python("python3"), &words, matrix.root());
    let each = 2 + 2 * profiles.len() * CURVES.len();
    assert_eq!(said.trim(), (AUTHORITIES.len() * each).to_string());
    same_to_be_signed(&matrix, &profiles);
}

/// What is to be signed, with everything that must differ from certificate to certificate left
/// out: serial number, window, keys and what is derived from keys.
fn masked(certificate: &Certificate) -> Vec<u8> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
    let tbs = &parsed.tbs_certificate;
    let (whole, _) = der::first(tbs.as_ref()).unwrap();
    let elements = der::children(whole.content).unwrap();
    // One serial number in 128 begins with a zero byte and is shorter for it.
    let without_serial = elements.iter().enumerate().filter(|(n, _)| *n != 1);
    let mut bytes: Vec<u8> = without_serial
        .flat_map(|(_, element)| element.whole)
        .copied()
        .collect();
    let mut parts: Vec<Vec<u8>> = vec![tbs.subject_pki.subject_public_key.data.to_vec()];
    parts.extend(certificate.subject_key_id.clone());
    parts.extend(certificate.authority_key_id.clone());
    for time in [tbs.validity.not_before, tbs.validity.not_after] {
        let at = time.to_datetime();
        let (year, month, day) = (at.year() % 100, u8::from(at.month()), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        let text = format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
        parts.push(text.into_bytes());
    }
    for part in parts {
        let at = bytes
            .windows(part.len())
            .position(|window| window == part)
            .unwrap();
        bytes[at..at + part.len()].fill(0);
    }
    bytes
}

/// The draft is the same wherever the CA's key is.
fn same_to_be_signed(matrix: &Matrix, profiles: &[String]) {
    for (profile, curve) in profiles
        .iter()
        .flat_map(|one| CURVES.map(|curve| (one, curve)))
    {
        let of = |n: usize| {
            let device = device(n, PLACE[n], profile, curve);
            let pem = matrix.read(&format!("devices/{device}/device.crt.pem"));
            let certificate = Certificate::all_from_pem(&pem).unwrap().remove(0);
            replace(masked(&certificate), device.as_bytes(), b"device")
        };
        for (one, other) in [(0, 3), (0, 6), (1, 4), (1, 7), (2, 5)] {
            let names = [AUTHORITIES[one].0, AUTHORITIES[other].0];
            assert_eq!(of(one), of(other), "{profile} {curve} {names:?}");
        }
    }
}

fn replace(bytes: Vec<u8>, what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        out.extend(&rest[..at]);
        out.extend(with);
        rest = &rest[at + what.len()..];
    }
    out.extend(rest);
    out
}
