"""The signature of an artifact: ed25519 (RFC 8032), by the package cryptography, of the bytes of its manifest.

The manifest has the checksum of every file, or those of its variants' manifests, so that one signature is of all of them.
"""

from pathlib import Path
from typing import Any

from tvm_balanced.core.files import read_regular
from tvm_balanced.errors import ArtifactError, EnvironmentFaultError, InputError
from tvm_balanced.runtime.manifest import NAME, SIGNATURE


def private_key(key: Any) -> Any:
    """Return an ed25519 private key of the package cryptography.

    Parameters
    ----------
    key : Ed25519PrivateKey, bytes, str or Path
        32 bytes, or the path of a PEM file without a password.

    Raises
    ------
    InputError
        If it is none.
    EnvironmentFaultError
        If cryptography is not installed.
    """
    kinds, serialization = _library()

    def of_pem(content: bytes) -> Any:
        return serialization.load_pem_private_key(content, None)

    return _key("sign", key, kinds.Ed25519PrivateKey, kinds.Ed25519PrivateKey.from_private_bytes, of_pem)


def write_signature(directory: Path, key: Any) -> None:
    """Sign an artifact by a key as `private_key` returns it; raises OSError."""
    (directory / SIGNATURE).write_bytes(key.sign((directory / NAME).read_bytes()))


def public_key(key: Any) -> Any:
    """Return an ed25519 public key of the package cryptography; parameter and errors as for `private_key`."""
    kinds, serialization = _library()
    of_pem = serialization.load_pem_public_key
    return _key("verify_key", key, kinds.Ed25519PublicKey, kinds.Ed25519PublicKey.from_public_bytes, of_pem)


def check_signature(directory: Path, content: bytes, key: Any) -> None:
    """Raise ArtifactError unless the artifact's signature is of these bytes of its manifest.

    Parameters
    ----------
    directory : Path
    content : bytes
    key : Ed25519PublicKey
        Of who signed it, as `public_key` returns it.
    """
    try:
        signature = read_regular(directory / SIGNATURE)
    except OSError:
        raise ArtifactError(f"{directory} is not signed; load it without verify_key only if you trust it") from None
    try:
        key.verify(signature, content)
    except Exception:  # InvalidSignature; or ValueError for other lengths
        raise ArtifactError(
            f"{directory} is not signed by this key, or was altered; do not load it, and copy it again from where it was signed"
        ) from None


def _key(name: str, key: Any, kind: type, of_bytes: Any, of_pem: Any) -> Any:
    if isinstance(key, kind):
        return key
    expected = "give an ed25519 key of the package cryptography, its 32 bytes, or the path of a PEM file without a password"
    if not isinstance(key, (bytes, str, Path)):
        raise InputError(f"{name} is {type(key).__name__}; {expected}")
    try:
        found = of_bytes(key) if isinstance(key, bytes) else of_pem(Path(key).read_bytes())
    except (OSError, TypeError, ValueError) as error:
        what = f"{len(key)} bytes" if isinstance(key, bytes) else f"{key} ({getattr(error, 'strerror', None) or 'no key'})"
        raise InputError(f"{name} is {what}; {expected}") from None
    if not isinstance(found, kind):
        raise InputError(f"{name} is {type(found).__name__}; {expected}")
    return found


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise EnvironmentFaultError("signatures need the package cryptography; pip install 'tvm-balanced[sign]'") from None
    return ed25519, serialization
