"""Moto: the third S3 server (versions, tags; checks no signature, and a ranged GET costs it the whole object)."""

from __future__ import annotations

from collections.abc import Sequence

from .process import HOST, free_ports
from .s3 import S3Server


class Moto(S3Server):
    """`moto_server`, PyPI `moto[server,s3]`."""

    program = "moto_server"

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        return [program, "-H", HOST, "-p", str(self.port)]

    @property
    def ready_url(self) -> str:
        return f"{self.endpoint}/moto-api/data.json"
