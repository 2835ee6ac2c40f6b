"""Signatures with public keys: ECDSA and RSA, and the keys that certificates hold."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from abmail.errors import MissingExtra
from abmail.webhooks._proof import refusal

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
except ModuleNotFoundError as error:
    raise MissingExtra("checking this provider's signatures", "webhooks") from error

__all__ = ["key_of_certificate", "require_ecdsa", "require_rsa"]

_HINT = "take the public key over from the provider again, and let nothing change the bytes on their way"


def require_ecdsa(keys: Iterable[str], message: bytes, signature: str) -> None:
    """Refuse a message that none of the keys signed with ECDSA and SHA-256.

    Args:
        keys: Public keys, base64 of their DER or PEM.
        message: What was signed.
        signature: Base64 of its DER.

    Raises:
        WebhookError: None did.
    """
    octets = _signature(signature)
    for key in keys:
        found = _public_key(key)
        if isinstance(found, ec.EllipticCurvePublicKey):
            try:
                found.verify(octets, message, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            return
    raise refusal("the signature does not fit", hint=_HINT)


def require_rsa(
    keys: Iterable[str | rsa.RSAPublicKey], message: bytes, signature: str, *, digest: Literal["sha1", "sha256"]
) -> None:
    """Refuse a message that none of the keys signed with RSA (PKCS #1 v1.5).

    Args:
        keys: Public keys, base64 of their DER or PEM.
        message: What was signed.
        signature: Base64.
        digest: With which digest.

    Raises:
        WebhookError: None did.
    """
    octets = _signature(signature)
    algorithm = hashes.SHA256() if digest == "sha256" else hashes.SHA1()  # noqa: S303 - the provider's choice
    for key in keys:
        found = _public_key(key) if isinstance(key, str) else key
        if isinstance(found, rsa.RSAPublicKey):
            try:
                found.verify(octets, message, padding.PKCS1v15(), algorithm)
            except InvalidSignature:
                continue
            return
    raise refusal("the signature does not fit", hint=_HINT)


def key_of_certificate(pem: bytes, *, now: datetime) -> rsa.RSAPublicKey:
    """The RSA key of a certificate.

    Raises:
        WebhookError: It is none, or not valid at this time.
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise refusal("the certificate that signs cannot be read") from None
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise refusal("the certificate that signs is not valid now")
    if not isinstance(key, rsa.RSAPublicKey):
        raise refusal("the certificate that signs holds no RSA key")
    return key


def _signature(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise refusal("the signature is no base64") from None


def _public_key(text: str) -> object:
    """A key from base64 of its DER, a DKIM record's value, or PEM; None where it is none."""
    try:
        if "-----BEGIN" in text:
            return load_pem_public_key(text.encode())
        return load_der_public_key(b64decode("".join(text.rpartition("p=")[2].rstrip(";").split()), validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return None
