"""Who may do what: a service account, the tokens it is given, and signed URLs (V4, RSA), all really verified."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ..inprocess import Reply, Request, as_json
from .store import Bucket, GcsError

EMAIL = "tests@genro-test.iam.gserviceaccount.com"
LIFETIME = 3600  # seconds of an access token
AHEAD = 300  # seconds that the clock of who signs may be ahead of ours


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Authority:
    """One service account with its key, and the access tokens handed out for it.

    A test may call `revoke()` to see what happens when a token dies half-way: clients then ask for a new one.
    """

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._tokens: dict[str, float] = {}

    def account(self, endpoint: str) -> dict[str, str]:
        """The service account as the dictionary of its JSON key file; its token_uri is this server."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "genro-test",
            "private_key_id": "0001",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{endpoint}/token",
            "universe_domain": "googleapis.com",
        }

    def revoke(self) -> None:
        """Make every access token worthless."""
        self._tokens.clear()

    def token(self, request: Request) -> Reply:
        """The OAuth 2.0 token endpoint (RFC 7523): a signed assertion for an access token."""
        assertion = dict(parse_qsl(request.body.decode())).get("assertion", "")
        if self._claims(assertion) is None:
            return as_json({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400)
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = time.time() + LIFETIME
        return as_json({"access_token": token, "expires_in": LIFETIME, "token_type": "Bearer"})

    def admit(self, request: Request, bucket: Bucket | None, *, writes: bool) -> None:
        """Let the request through or raise 401 or 403; `bucket` is None where none is meant or none exists."""
        known = self._is_known(request)
        access = bucket.access if bucket else "open"
        if access != "open" and not known:
            raise GcsError(401, "Anonymous caller does not have storage.objects access.", "AccessDenied")
        if access == "denied" or (access == "readonly" and writes):
            raise GcsError(403, f"{EMAIL} does not have permission for this operation.", "AccessDenied")

    def _is_known(self, request: Request) -> bool:
        """Whether the request carries valid credentials; False when it carries none, an error when they are wrong."""
        if "X-Goog-Signature" in request.query:
            self._check_signed_url(request)
            return True
        _, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:  # obstore with disable_oauth sends an empty one
            return False
        if self._tokens.get(token, 0) > time.time() or self._claims(token) is not None:
            return True
        raise GcsError(401, "Invalid Credentials", "AuthenticationRequired")

    def _claims(self, jwt: str) -> Mapping[str, Any] | None:
        """The claims of a JSON web token that this account signed and that is still valid."""
        try:
            signed, _, signature = jwt.rpartition(".")
            self._verify(_decoded(signature), signed.encode())
            claims = json.loads(_decoded(signed.split(".")[1]))
        except (InvalidSignature, ValueError, IndexError):
            return None
        now = time.time()
        return claims if claims.get("exp", 0) > now and claims.get("iat", 0) < now + AHEAD else None

    def _verify(self, signature: bytes, signed: bytes) -> None:
        self._key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())

    def _check_signed_url(self, request: Request) -> None:
        """Verify a V4 signature: https://cloud.google.com/storage/docs/authentication/canonical-requests."""
        query = request.query
        moment = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if moment.timestamp() + int(query["X-Goog-Expires"]) < time.time():
            raise GcsError(400, "The provided token has expired.", "ExpiredToken")
        pairs = sorted(p for p in urlsplit(request.target).query.split("&") if not p.startswith("X-Goog-Signature="))
        names = query["X-Goog-SignedHeaders"].split(";")
        lines = [f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names]
        payload = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
        canonical = "\n".join(
            [request.method, request.raw_path, "&".join(pairs), *lines, "", ";".join(names), payload]
        ).encode()
        scope = query["X-Goog-Credential"].partition("/")[2]
        digest = hashlib.sha256(canonical).hexdigest()
        signed = "\n".join([query["X-Goog-Algorithm"], query["X-Goog-Date"], scope, digest]).encode()
        try:
            self._verify(bytes.fromhex(query["X-Goog-Signature"]), signed)
        except (InvalidSignature, ValueError):
            raise GcsError(
                403, "The request signature we calculated does not match.", "SignatureDoesNotMatch"
            ) from None
