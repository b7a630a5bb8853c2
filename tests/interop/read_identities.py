"""Reads identities without nameplate: `cryptography` builds and verifies each chain, pkilint looks
for errors in each certificate. Arguments: a root, then identity folders below it; repeated, with
`--` between. Prints how many certificates were looked at; ends with 1 and a line for each that is
wrong."""

import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from pkilint import loader, report, validation
from pkilint.pkix import certificate, extension, name

LINTER = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)
SERVER = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
looked_at, wrong = set(), []


def lint(cert, place):
    der = cert.public_bytes(Encoding.DER)
    if der in looked_at:
        return
    looked_at.add(der)
    document = loader.load_certificate(der, str(place))
    results = LINTER.validate(document.root)
    severity = validation.ValidationFindingSeverity.ERROR
    if report.get_findings_count(results, severity):
        wrong.append(f"{place}: pkilint: {report.ReportGeneratorPlaintext(results, severity).generate()}")


def path(chain, root, place):
    """Each signature by hand; a server also by the library's own verifier, which refuses clients
    without alternative names."""
    for below, above in zip(chain, [*chain[1:], root]):
        if below != above:
            below.verify_directly_issued_by(above)
    usages = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = [one for one in chain[0].extensions if one.oid == x509.SubjectAlternativeName.oid]
    if SERVER in usages and names:
        host = names[0].value.get_values_for_type(x509.DNSName)[0]
        builder = verification.PolicyBuilder().store(verification.Store([root]))
        builder.build_server_verifier(x509.DNSName(host)).verify(chain[0], chain[1:])


def identity(folder, root):
    try:
        chain = x509.load_pem_x509_certificates((folder / "chain.pem").read_bytes())
        path(chain, root, folder)
        for cert in chain:
            lint(cert, folder)
    except Exception as error:  # whatever it is, the identity cannot be used
        wrong.append(f"{folder}: {error!r}")


words = sys.argv[1:]
while words:
    end = words.index("--") if "--" in words else len(words)
    file, *folders = map(Path, words[:end])
    words = words[end + 1 :]
    root = x509.load_pem_x509_certificate(file.read_bytes())
    root.verify_directly_issued_by(root)
    lint(root, file)
    for folder in folders:
        identity(folder, root)
print(len(looked_at))
for line in wrong:
    print(line, file=sys.stderr)
sys.exit(1 if wrong else 0)
