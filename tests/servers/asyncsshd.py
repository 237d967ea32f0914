"""asyncssh serving SFTP to who knows a password: the second SFTP server, for what sshd can do with PAM only."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from .folder import FolderServer
from .process import HOST, ServerMissing, free_ports, greets


class PasswordSftp(FolderServer):
    """PyPI `asyncssh` in a process of its own; the served folder is its `/`.

    Seen by paramiko 5.1 it answers as sshd does, but in other words: OSError("File already exists"), without errno too.
    `posix_rename` replaces. A wrong password is `AuthenticationException`.
    """

    program = "python3"
    username = "genro"
    password = "genro-test-password"

    def start(self) -> None:
        if importlib.util.find_spec("asyncssh") is None:
            raise ServerMissing(f"asyncssh is not installed: {self.remedy}")
        super().start()

    @property
    def known_hosts(self) -> Path:
        """A file that holds this server's host key, as OpenSSH writes it."""
        return self.folder / "known_hosts"

    def command(self, program: str) -> Sequence[str]:
        import asyncssh  # slow to import, and here alone

        (self.port,) = free_ports(1)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(self.folder / "host_key")
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {key.export_public_key().decode()}")
        keys = {
            "host": HOST,
            "port": self.port,
            "data": str(self.data),
            "host_key": str(self.folder / "host_key"),
            "username": self.username,
            "password": self.password,
        }
        return [program, str(Path(__file__).with_name("sftpd.py")), json.dumps(keys)]

    def is_ready(self) -> bool:
        return greets(self.port, b"SSH-2.0-")

    def options(self, root: str) -> dict[str, str | int]:
        """The keys of a mount entry that reach this root by password; add `name`, `type` and the rest."""
        return {
            "host": HOST,
            "port": self.port,
            "username": self.username,
            "password": self.password,
            "known_hosts": str(self.known_hosts),
            "path": root,
        }
