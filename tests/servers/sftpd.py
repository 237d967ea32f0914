"""The program of the SFTP server with a password; its argument is JSON (see `PasswordSftp.command`)."""

import asyncio
import json
import sys

import asyncssh


async def main() -> None:
    keys = json.loads(sys.argv[1])

    class Door(asyncssh.SSHServer):
        """Lets in who knows the password."""

        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (keys["username"], keys["password"])

    def files(channel: asyncssh.SSHServerChannel) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=keys["data"].encode())

    await asyncssh.listen(
        keys["host"], keys["port"], server_factory=Door, server_host_keys=[keys["host_key"]], sftp_factory=files
    )
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
