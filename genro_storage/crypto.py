"""Sealing small pieces of data under named keys: AES-256-GCM, a key of its own for every piece."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .exceptions import StorageConfigError, StorageCorruptedError, StorageDriverError

MAGIC = b"GSE1"
SALT = 16
KEY, NONCE, TAG = 32, 12, 16
PIECE = 1 << 20
"""Bytes that are sealed or opened at a time: meanwhile every thread of the interpreter stands still."""
INFO = b"genro_storage sealed 1"
DIGESTS = b"genro_storage digests 1"


class Keyring:
    """Keys by id: the first seals, all open. `entries`: ``{"id": …, "key_env": …}`` or ``{"id": …, "key": …}``.

    A key is 32 bytes as base64 or hexadecimal digits. What is sealed is ``GSE1``, the length of the id, the id, 16
    random bytes, then AES-256-GCM under a key and a nonce that HKDF-SHA256 makes of these 16 bytes (RFC 5869). The
    header and the caller's context are authenticated: what was sealed for one place opens at no other.
    """

    def __init__(self, entries: Sequence[Mapping[str, str]]) -> None:
        _driver()
        self._keys: dict[bytes, bytes] = {}
        for entry in entries:
            name = _id_of(entry)
            if name in self._keys:
                raise StorageConfigError(f"two keys have the id {entry['id']!r}")
            self._keys[name] = _key_of(entry)
        if not self._keys:
            raise StorageConfigError("encryption needs at least one key")
        self._first = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"Keyring({', '.join(name.decode() for name in self._keys)})"

    def seal(self, data: bytes, context: bytes) -> bytes:
        """The data, readable only with the first key and in this context."""
        header = MAGIC + bytes([len(self._first)]) + self._first + os.urandom(SALT)
        key, nonce = self._derived(self._first, header[-SALT:])
        if len(data) <= PIECE:
            return header + bytes(_aes(key).encrypt(nonce, data, header + context))
        return b"".join([header, *_in_pieces(_gcm(key, nonce).encryptor(), data, header + context)])

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The data; wrong key, wrong context, changed bytes: `StorageCorruptedError`."""
        name, header, body = _parted(sealed)
        if name not in self._keys:
            raise StorageCorruptedError(f"sealed with the key {name.decode(errors='replace')!r}, which is not given")
        key, nonce = self._derived(name, header[-SALT:])
        try:
            if len(body) <= PIECE:
                return bytes(_aes(key).decrypt(nonce, body, header + context))
            opener = _gcm(key, nonce, body[-TAG:]).decryptor()
            return b"".join(_in_pieces(opener, memoryview(body)[:-TAG], header + context))
        except _driver().exceptions.InvalidTag:
            raise StorageCorruptedError("it does not open: another key, another place, or changed bytes") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed it."""
        return is_sealed(sealed) and _parted(sealed)[0] == self._first

    def digest_key(self) -> bytes:
        """A key of 32 bytes, made of the first, for digests that nobody without it can compare with what he guesses."""
        return self._made(self._first, b"", DIGESTS)[:KEY]

    def _derived(self, name: bytes, salt: bytes) -> tuple[bytes, bytes]:
        made = self._made(name, salt, INFO)
        return made[:KEY], made[KEY:]

    def _made(self, name: bytes, salt: bytes, info: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(hashes.SHA256(), KEY + NONCE, salt, info).derive(self._keys[name])


def is_sealed(data: bytes) -> bool:
    """Whether it begins as what `Keyring.seal` makes."""
    return data[: len(MAGIC)] == MAGIC


def _parted(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    """(key id, header, body)."""
    start = len(MAGIC) + 1
    end = start + (sealed[start - 1] if len(sealed) >= start else 0)
    if not is_sealed(sealed) or len(sealed) < end + SALT:
        raise StorageCorruptedError("this is not sealed, or cut off")
    return sealed[start:end], sealed[: end + SALT], sealed[end + SALT :]


def _id_of(entry: Mapping[str, str]) -> bytes:
    unknown = set(entry) - {"id", "key", "key_env"}
    if unknown:
        raise StorageConfigError(f"a key has id and key_env (or key), not {', '.join(sorted(unknown))}")
    name = entry.get("id", "").encode()
    if not 0 < len(name) <= 64:
        raise StorageConfigError("a key needs an id of 1 to 64 bytes")
    return name


def _key_of(entry: Mapping[str, str]) -> bytes:
    if ("key" in entry) == ("key_env" in entry):
        raise StorageConfigError(f"the key {entry['id']!r} needs either key_env or key")
    text = entry["key"] if "key" in entry else os.environ.get(entry["key_env"], "")
    if not text:
        raise StorageConfigError(f"the key {entry['id']!r} is empty: is {entry.get('key_env', 'key')} set?")
    for decoded in (bytes.fromhex, _base64):
        try:
            key = decoded(text.strip())
        except ValueError:
            continue
        if len(key) == KEY:
            return key
    raise StorageConfigError(f"the key {entry['id']!r} is not 32 bytes as base64 or hexadecimal digits")


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _aes(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _gcm(key: bytes, nonce: bytes, tag: bytes | None = None) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.GCM(nonce, tag))


def _in_pieces(cipher: Any, data: bytes | memoryview, context: bytes) -> list[bytes]:
    """What AESGCM makes at once, its tag at the end; of what does not open nothing is returned."""
    cipher.authenticate_additional_data(context)
    view = memoryview(data)
    made = [cipher.update(view[at : at + PIECE]) for at in range(0, len(view), PIECE)]
    made.append(cipher.finalize())
    return made if (tag := getattr(cipher, "tag", None)) is None else [*made, tag]


def _driver() -> Any:
    try:
        import cryptography.exceptions
    except ImportError as error:
        text = "encryption needs cryptography: pip install 'genro-storage[encryption]'"
        raise StorageDriverError(text) from error
    return cryptography
