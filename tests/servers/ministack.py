"""MiniStack: the second opinion on S3 (AWS listing order, sub-second times, no authentication)."""

from __future__ import annotations

from collections.abc import Sequence

from .process import HOST, free_ports
from .s3 import S3Server


class MiniStack(S3Server):
    """`ministack`, PyPI `ministack`."""

    program = "ministack"
    access_key = "test"
    secret_key = "test"

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        return [program]

    def environment(self) -> dict[str, str]:
        return {"BIND_HOST": HOST, "GATEWAY_PORT": str(self.port), "SERVICES": "s3,sts,iam"}

    @property
    def ready_url(self) -> str:
        return f"{self.endpoint}/_ministack/health"
