"""pyftpdlib: FTP, or FTP over TLS, with a writer, a reader and the anonymous user (who reads)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from .certificates import make_certificate
from .folder import FolderServer
from .process import HOST, ServerMissing, free_ports, greets


class Ftp(FolderServer):
    """`pyftpdlib` in a process of its own; the served folder is its `/`.

    Found with ftplib:

    - MLSD tells type, size and modify (whole seconds, UTC) of a level, MLST of one path; MFMT sets the time. SIZE is
      refused in ASCII mode, in which a session begins: `TYPE I` first.
    - 550 is every refusal (`error_perm`): absent, exists, a directory, not empty, not allowed. Only the text tells them
      apart, which no standard fixes: ask MLST. MLSD of what is absent or a file is 501, a wrong password 530.
    - STOR shows a file as soon as it begins: write under another name, then RNFR and RNTO, which here replaces a file.
    - REST beyond the end is 554.
    - `FTP_TLS()` verifies nothing; give `context=ssl.create_default_context(…)`. After `login` call `prot_p()`, or the
      data would go in clear (which this server refuses).
    - Names with a line end are a ValueError.
    """

    program = "python3"
    username = "genro"
    reader = "reader"
    password = "genro-test-password"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.cert_file: Path | None = None

    def start(self) -> None:
        if importlib.util.find_spec("pyftpdlib") is None:
            raise ServerMissing(f"pyftpdlib is not installed: {self.remedy}")
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
            "reader": self.reader,
            "password": self.password,
            "cert_file": str(self.cert_file or ""),
            "key_file": str(key_file or ""),
        }
        return [program, str(Path(__file__).with_name("ftpd.py")), json.dumps(keys)]

    def is_ready(self) -> bool:
        return greets(self.port, b"220 ")

    def options(self, root: str) -> dict[str, str | int | bool]:
        """The keys of a mount entry that reach this root; add `name`, `type` and the rest."""
        told = {"username": self.username, "password": self.password, "path": root}
        return {"host": HOST, "port": self.port, **told, **({"tls": True} if self.tls else {})}
