"""The program of the FTP server; its argument is JSON (see `Ftp.command`). Imports nothing of the tests."""

import json
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

ALL = "elradfmwMT"
READ = "elr"


def main() -> None:
    keys = json.loads(sys.argv[1])
    handler = FTPHandler
    if keys["cert_file"]:
        from pyftpdlib.handlers import TLS_FTPHandler as handler

        handler.certfile, handler.keyfile = keys["cert_file"], keys["key_file"]
        handler.tls_control_required = handler.tls_data_required = True
    authorizer = DummyAuthorizer()
    authorizer.add_user(keys["username"], keys["password"], keys["data"], perm=ALL)
    authorizer.add_user(keys["reader"], keys["password"], keys["data"], perm=READ)
    authorizer.add_anonymous(keys["data"])
    handler.authorizer = authorizer
    handler.auth_failed_timeout = 0  # 3 seconds to slow down who guesses
    server = FTPServer((keys["host"], keys["port"]), handler)
    server.max_cons = 1024
    server.serve_forever()


main()
