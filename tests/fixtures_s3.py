"""Fixtures of the S3 server, registered in conftest.py."""

import uuid
from collections.abc import Iterator

import pytest

from tests.s3 import BUCKET, SeaweedFS


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One SeaweedFS for the whole session, started by the first test that needs it."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.kill()


class S3:
    """The server as one test sees it: its environment is set, and `uri` is a fresh prefix of its own."""

    def __init__(self, server: SeaweedFS) -> None:
        self.server = server
        self.endpoint = server.endpoint
        self.env = server.env()
        self.uri = f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def s3(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in s3_server.env().items():
        monkeypatch.setenv(name, value)
    return S3(s3_server)
