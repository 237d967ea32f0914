"""An open multipart upload: begun here or known by its id, ended once, whatever becomes of the answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ...types import Stat
from .._objects import unquoted
from .client import Answer
from .errors import status_of
from .facts import Checksums, conditions, written_as

if TYPE_CHECKING:
    from .wire import Wire
    from .writer import Target

ABORT_TRIES = 3

_MD5 = re.compile(r"[0-9a-f]{32}")


class Upload:
    """The upload `id` of the object of `target`."""

    def __init__(self, target: Target, id: str, wire: Wire | None = None) -> None:
        """`wire`: what needs no client goes by it."""
        self.target, self.id = target, id
        # A client is kept: the loop's own thread, where some uploads are aborted, cannot make one.
        self._wire = wire
        self._client: Any = target.connection.client if wire is None else None
        self._lost = False

    @classmethod
    def begun(cls, target: Target, checksums: Checksums, headers: Answer = {}, *, wire: Wire | None = None) -> Upload:
        """A new upload; `headers` go with what the options say."""
        connection = target.connection
        request = target.request | written_as(target.options, connection.options) | headers
        while True:
            announced = {"ChecksumAlgorithm": checksums.algorithm} if checksums.algorithm else {}
            try:
                answer = _asked(target, wire, "create_multipart_upload", request | announced)
            except ClientError as error:
                if not checksums.refused(error, announced):
                    raise
                continue
            checksums.learn(answer, announced)
            return cls(target, answer["UploadId"], wire)

    @property
    def request(self) -> Answer:
        """The parameters of every request about it."""
        return self.target.request | {"UploadId": self.id}

    def complete(self, parts: Sequence[Answer], size: int) -> Stat:
        """Makes the object visible. After a lost answer it may be called again: the same upload ends only once."""
        target = self.target
        request = self.request | conditions(target.options) | {"MultipartUpload": {"Parts": parts}}
        try:
            answer = _asked(target, self._wire, "complete_multipart_upload", request)
        except ClientError as error:
            if self._lost and status_of(error) in (404, 409, 412) and (stat := self._found(parts, size)):
                return stat
            self._lost |= status_of(error) >= 500
            raise target.judged(error) from error
        except Exception:  # a driver call without an answer: what it asked for may have been done
            self._lost = True
            raise
        return target.written(answer, size)

    def _found(self, parts: Sequence[Answer], size: int) -> Stat | None:
        """The facts of what is there if it is what these parts make."""
        stat = self.target.head()
        return stat if stat and stat.size == size and _made_of(parts, stat.etag or "") else None

    def abort(self) -> None:
        """Frees its parts; never raises."""
        for _ in range(ABORT_TRIES):
            try:
                _asked(self.target, self._wire, "abort_multipart_upload", self.request)
            except Exception as error:  # noqa: BLE001 - a driver call; nobody is left to tell, cleanup finds the rest
                if status_of(error) == 404:
                    return
            else:
                return

    def aborting(self) -> Any:
        """The request that ends it, once."""
        return self._client.abort_multipart_upload(**self.request)


def _asked(target: Target, wire: Wire | None, operation: str, request: Answer) -> Answer:
    """The answer to a request, by the wire where that takes it."""
    answer = None if wire is None else wire.ask(operation, request)
    if answer is not None:
        return answer
    connection = target.connection
    found: Answer = connection.run(getattr(connection.client, operation)(**request))
    return found


def _made_of(parts: Sequence[Answer], etag: str) -> bool:
    """Whether an ETag is that of these parts: the MD5 of their MD5s and their number, where they are MD5s."""
    found = [unquoted(part["ETag"]) or "" for part in parts]
    if not all(_MD5.fullmatch(part) for part in found):
        return etag.endswith(f"-{len(found)}")
    together = hashlib.md5(bytes.fromhex("".join(found)), usedforsecurity=False).hexdigest()
    return etag == f"{together}-{len(found)}"
