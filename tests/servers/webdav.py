"""WsgiDAV under cheroot: WebDAV with Basic or bearer credentials, plain or over TLS."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from .certificates import make_certificate
from .folder import FolderServer
from .process import HOST, ServerMissing, free_ports, greets


class WebDav(FolderServer):
    """`wsgidav` in a process of its own; `/readonly` shows the same folder and refuses every change (403).

    Found with httpx 0.28, webdav4 0.11 and WsgiDAV 4.4:

    - webdav4 does not encode paths: `#` and `?` in a name end in httpx's InvalidURL. With httpx, quote them yourself.
    - DELETE of a folder takes all that is in it, and MOVE or COPY replaces what is there, a folder too, unless
      `Overwrite: F` is said (then 412): ask for the kind first.
    - GET of a folder is an HTML page, not an error: only PROPFIND tells.
    - PUT writes in place (a reader sees the half of it): write under another name, then MOVE. A parent that is missing
      is 409; MKCOL of what exists is 405.
    - `If-None-Match: *` and `If-Match` of a PUT are honoured (412). The ETag is inode-second-size: a change within the
      same second that keeps the size is not seen.
    - The time cannot be set: Win32LastModifiedTime is kept as a property of its own and changes nothing.
    """

    program = "python3"
    username = "genro"
    password = "genro-test-password"
    token = "genro-test-token"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.cert_file: Path | None = None

    def start(self) -> None:
        for module in ("wsgidav", "cheroot"):
            if importlib.util.find_spec(module) is None:
                raise ServerMissing(f"{module} is not installed: {self.remedy}")
        super().start()

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        key_file = None
        if self.tls:
            self.cert_file, key_file = make_certificate(self.folder)
        keys = {
            "host": HOST,
            "port": self.port,
            "data": str(self.data),
            "username": self.username,
            "password": self.password,
            "token": self.token,
            "cert_file": str(self.cert_file or ""),
            "key_file": str(key_file or ""),
        }
        return [program, str(Path(__file__).with_name("davd.py")), json.dumps(keys)]

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def is_ready(self) -> bool:
        return greets(self.port, b"") if self.tls else super().is_ready()

    def options(self, root: str) -> dict[str, str]:
        """The keys of a mount entry that reach this root; add `name`, `type` and the rest."""
        return {"url": self.endpoint, "username": self.username, "password": self.password, "path": root}
