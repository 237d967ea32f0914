"""OpenSSH's sshd serving SFTP: own host key, one user key; as root it is locked into its folder."""

from __future__ import annotations

import getpass
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .folder import FolderServer
from .process import HOST, find_program, free_ports, greets

CONFIG = """\
Port {port}
Port {readonly_port}
ListenAddress {host}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM {pam}
StrictModes no
MaxStartups 200
MaxSessions 200
LogLevel ERROR
AllowTcpForwarding no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
{chroot}

Match LocalPort {readonly_port}
    ForceCommand internal-sftp -R
"""


class Sshd(FolderServer):
    """`sshd` of Debian's `openssh-server`, SFTP only.

    As root it changes its root to the served folder, so that no test and no fault of ours reaches this machine's own
    files: `/` is the served folder. Otherwise paths are this machine's.

    Found with paramiko 5.1:

    - Nagle is left on: 1 MiB in small writes takes 1 s, and 0.04 s after
      `transport.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)`; `prefetch()` and `set_pipelined(True)` halve it again.
    - What exists, is a directory or is not empty: always OSError("Failure") with errno None (a name over 255 bytes:
      "Bad message"); only ENOENT and EACCES are told. Ask `lstat` to know more.
    - `rename` onto an existing file fails, `posix_rename` replaces it; an exclusive create is mode "x" or "wx".
    - `utime` and `stat` know whole seconds. There is no `statvfs`.
    - One name that is not UTF-8 makes `listdir` of its whole directory a UnicodeDecodeError.
    - A dead port: `NoValidConnectionsError` (an OSError without errno); a wrong key: `AuthenticationException`; a wrong
      passphrase: a plain `SSHException` ("Invalid key"), none: `PasswordRequiredException`; an unknown host key under
      RejectPolicy: a plain `SSHException`; a changed one: `BadHostKeyException`.
    - Without `look_for_keys=False, allow_agent=False` it offers the keys of the developer first.
    """

    program = "sshd"
    remedy = "apt-get install openssh-server"
    also = (Path("/usr/sbin"),)
    passphrase = "correct horse"
    readonly_port = 0
    """Behind which the same server takes no changes (EACCES), whoever asks."""

    def make_folder(self) -> Path:
        """Below /run as root: sshd refuses a root of which any parent is writable for others, as /tmp is."""
        return Path(tempfile.mkdtemp(prefix="sshd-", dir="/run")) if self.locked else super().make_folder()

    @property
    def locked(self) -> bool:
        """Whether the served folder is the server's `/`."""
        return os.geteuid() == 0

    @property
    def username(self) -> str:
        return getpass.getuser()

    @property
    def guest(self) -> str:
        """An account that the modes of files bind (root's they do not), let in by the same key."""
        return "nobody" if self.locked else self.username

    @property
    def key_file(self) -> Path:
        """The user's private key."""
        return self.folder / "user_key"

    @property
    def protected_key_file(self) -> Path:
        """The same key, encrypted with `passphrase`."""
        return self.folder / "protected_key"

    @property
    def other_key_file(self) -> Path:
        """A key that this server does not accept."""
        return self.folder / "other_key"

    @property
    def known_hosts(self) -> Path:
        """A file that holds this server's host key, as OpenSSH writes it."""
        return self.folder / "known_hosts"

    def command(self, program: str) -> Sequence[str]:
        self.port, self.readonly_port = free_ports(2)
        if self.locked:
            self.folder.chmod(0o711)  # sshd reads the guest's keys as the guest
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd demands, and its service would make
        for name in ("host_key", "user_key", "other_key"):
            self._keygen("-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name))
        self.protected_key_file.write_bytes(self.key_file.read_bytes())
        self.protected_key_file.chmod(0o600)
        self._keygen("-p", "-P", "", "-N", self.passphrase, "-f", str(self.protected_key_file))
        host_key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {host_key}\n")
        config = self.folder / "sshd_config"
        chroot = f"ChrootDirectory {self.data}" if self.locked else ""
        pam = "no" if self.locked else "yes"  # without root only PAM can tell that an account is not locked
        ports = {"port": self.port, "readonly_port": self.readonly_port}
        config.write_text(CONFIG.format(**ports, host=HOST, folder=self.folder, chroot=chroot, pam=pam))
        return [program, "-D", "-e", "-f", str(config)]

    @staticmethod
    def _keygen(*arguments: str) -> None:
        program = find_program("ssh-keygen", "apt-get install openssh-client")
        subprocess.run([program, "-q", *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def is_ready(self) -> bool:
        return greets(self.port, b"SSH-2.0-")

    def make_root(self) -> str:
        root = super().make_root()
        return root if self.locked else f"{self.data}{root}"

    def local(self, path: str) -> Path:
        return super().local(path if self.locked else path.removeprefix(str(self.data)))

    def options(self, root: str) -> dict[str, str | int]:
        """The keys of a mount entry that reach this root by key and known host; add `name`, `type` and the rest."""
        return {
            "host": HOST,
            "port": self.port,
            "username": self.username,
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
            "path": root,
        }
