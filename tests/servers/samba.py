"""Samba's smbd: a share that may be written, and the same folder as a read-only share."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .folder import FolderServer
from .process import HOST, find_program, free_ports, greets

CONFIG = """\
[global]
server role = standalone server
smb ports = {port}
interfaces = {host}
bind interfaces only = yes
server min protocol = SMB2_02
map to guest = never
disable netbios = yes
load printers = no
printcap name = /dev/null
disable spoolss = yes
dns proxy = no
log level = 0
passdb backend = tdbsam:{folder}/private/passdb.tdb
private dir = {folder}/private
lock directory = {folder}/lock
state directory = {folder}/state
cache directory = {folder}/cache
pid directory = {folder}/pid
ncalrpc dir = {folder}/ncalrpc
usershare max shares = 0

[data]
path = {folder}/data
read only = no

[readonly]
path = {folder}/data
read only = yes

[guarded]
path = {folder}/data
read only = no
{guest}
"""


class Samba(FolderServer):
    """`smbd` of Debian's `samba`, on a high port, everything it keeps in its own folder.

    Found with smbprotocol 1.17 and Samba 4.17:

    - `smbclient` keeps one connection per (host, port) for the whole process: pass a `connection_cache={}` of your own,
      and close it with `smbclient.reset_connection_cache(connection_cache=…)`.
    - `entry.stat()` of `scandir` forgets port and cache (it dials port 445): size and times are in `entry.smb_info`.
    - Errors are `SMBOSError` (an OSError). EEXIST, ENOENT, EISDIR, ENOTEMPTY come as errno; a wrong password, a refusal
      and an impossible name have errno 0: look at `ntstatus` (0xc000006d, 0xc0000022, 0xc0000033). An absent share is
      ENOENT too (0xc0000225). A dead port is a plain ValueError ("Failed to connect to …").
    - `rename` refuses an existing target (EEXIST), `replace` replaces it. `utime` keeps 100 ns.
    - `B` finds `b`. `a:b` and `a*b` are refused; `a.` is written and then listed under a made-up name (AQZNE5~G).
    """

    program = "smbd"
    remedy = "apt-get install samba"
    also = (Path("/usr/sbin"),)
    share = "data"
    readonly_share = "readonly"
    guarded_share = "guarded"
    """The same folder for an account that the modes of files bind (root's they do not)."""
    password = "genro-test-password"

    @property
    def username(self) -> str:
        return getpass.getuser()

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            (self.folder / name).mkdir()
        config = self.folder / "smb.conf"
        guest = ""
        if os.geteuid() == 0:
            guest = "force user = nobody"
            self.folder.chmod(0o711)
        config.write_text(CONFIG.format(port=self.port, host=HOST, folder=self.folder, guest=guest))
        pdbedit = find_program("pdbedit", self.remedy)  # smbpasswd adds users for root only
        said = f"{self.password}\n{self.password}\n".encode()
        add = [pdbedit, "-s", str(config), "-a", "-t", "-u", self.username]
        subprocess.run(add, input=said, check=True, capture_output=True)
        return [program, "-F", "--no-process-group", "-s", str(config), "--debug-stdout"]

    def is_ready(self) -> bool:
        return greets(self.port, b"")

    def options(self, root: str, *, readonly: bool = False) -> dict[str, str | int]:
        """The keys of a mount entry that reach this root; add `name`, `type` and the rest."""
        return {
            "host": HOST,
            "port": self.port,
            "share": self.readonly_share if readonly else self.share,
            "username": self.username,
            "password": self.password,
            "path": root,
        }
