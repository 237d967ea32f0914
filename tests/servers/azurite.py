"""Azurite: Microsoft's own emulator of Azure Blob storage (conditions, SAS, leases, tags; no version ids)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .azure import AzureEndpoint
from .process import CACHE, HOST, ServerProcess, free_ports

ACCOUNT = "genrotests"
KEY = "Z2Vucm8tdGVzdC1hY2NvdW50LWtleS0wMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA=="


class Azurite(ServerProcess):
    """`azurite-blob`, npm `azurite`, on PATH or where `.ci/run` puts it; needs node 20 or newer."""

    program = "azurite-blob"
    remedy = f"npm install --prefix {CACHE / 'npm'} azurite (or as .ci/run does, with .ci/azurite.json)"
    also = (CACHE / "npm/node_modules/.bin",)

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        quiet = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        return [program, *quiet, "--blobHost", HOST, "--blobPort", str(self.port), "--inMemoryPersistence"]

    def environment(self) -> dict[str, str]:
        beside = Path(sys.executable).parent  # node may have come as a wheel
        return {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}", "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}

    @property
    def azure(self) -> AzureEndpoint:
        """The running server's address and account."""
        return AzureEndpoint(f"{self.endpoint}/{ACCOUNT}", ACCOUNT, KEY)
