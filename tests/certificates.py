"""Certificates for receivers in tests: an authority of the test's own, and what it signs, or does not."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates for names.

    Args:
        folder: where its own certificate (`file`) and those that it signs are written.
    """

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = _certificate(self.name, self.key, self.name, self.key, authority=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(_pem(self.certificate))

    def server(self, host: str, *, ends_in: timedelta = DAY, self_signed: bool = False) -> ssl.SSLContext:
        """What a server with a certificate for this name listens with."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        issuer, signs = (name, key) if self_signed else (self.name, self.key)
        made = _certificate(name, key, issuer, signs, host=host, ends_in=ends_in)
        file = self.folder / f"server-{made.serial_number}.pem"
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + _pem(made))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _certificate(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, signs: ec.EllipticCurvePrivateKey, *,
    host: str | None = None, ends_in: timedelta = DAY, authority: bool = False,
) -> x509.Certificate:  # fmt: skip
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - 10 * DAY).not_valid_after(now + ends_in)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False)
    )  # fmt: skip
    if authority:
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        made = made.add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
    if host is not None:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return made.sign(signs, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
