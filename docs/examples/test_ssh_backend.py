import pytest
from ssh_backend import SshBackend, SshOptions

from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS


class TestSshBackend(BackendSuite):
    lacks = WORDS - {"case_sensitive", "mkdir", "mtime", "ordered", "real_dirs", "rmdir", "tells_missing"}
    payloads, many, large = 10, 100, 1 << 20

    @pytest.fixture
    def backend(self, sshd):  # a server of the tests' own
        backend = SshBackend(SshOptions(**sshd.options(sshd.make_root())))
        yield backend
        backend.close()
