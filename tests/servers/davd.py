"""The program of the WebDAV server; its argument is JSON (see `WebDav.command`). Imports nothing of the tests."""

import base64
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from wsgidav.wsgidav_app import WsgiDAVApp


def with_token(app: Callable[..., Iterable[bytes]], keys: dict[str, Any]) -> Callable[..., Iterable[bytes]]:
    """WsgiDAV knows no bearer token: the right one is let in as the user it stands for."""
    basic = base64.b64encode(f"{keys['username']}:{keys['password']}".encode()).decode()

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_AUTHORIZATION") == f"Bearer {keys['token']}":
            environ["HTTP_AUTHORIZATION"] = f"Basic {basic}"
        return app(environ, start_response)

    return checked


def main() -> None:
    keys = json.loads(sys.argv[1])
    users = {keys["username"]: {"password": keys["password"]}}
    app = WsgiDAVApp(
        {
            "provider_mapping": {
                "/": keys["data"],
                "/readonly": {"root": keys["data"], "readonly": True},
            },
            "simple_dc": {"user_mapping": {"*": users}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "property_manager": True,
            "lock_storage": True,
            "verbose": 1,
            "logging": {"enable_loggers": []},
        }
    )
    server = wsgi.Server((keys["host"], keys["port"]), with_token(app, keys), numthreads=16, request_queue_size=256)
    if keys["cert_file"]:
        server.ssl_adapter = BuiltinSSLAdapter(keys["cert_file"], keys["key_file"])
    server.start()


main()
