"""A Ray cluster of real processes on this machine: a head without CPUs and nodes that join it, each a process tree."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType

HEAD_PORTS = {"port": 20379, "dashboard-port": 20265, "ray-client-server-port": 20001}


class Cluster:
    """`ray start --head`, and one `ray start` for every node; a context manager that leaves nothing behind."""

    def __init__(self, *, env: dict[str, str]) -> None:
        python = Path(sys.executable).parent
        self.folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))  # sockets below it must have short paths
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **env,
            "PATH": f"{python}:{os.environ['PATH']}",  # job entrypoints use PATH's python
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_memory_monitor_refresh_ms": "0",
            "OMP_NUM_THREADS": "1",
        }
        self._ray = str(python / "ray")
        self._ip = _own_address()
        self._trees: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://127.0.0.1:{HEAD_PORTS['dashboard-port']}"

    def __enter__(self) -> "Cluster":
        ports = [f"--{name}={port}" for name, port in HEAD_PORTS.items()]
        self._start("head", "--head", "--num-cpus=0", f"--temp-dir={self.folder}", *ports, agent=20100)
        self._wait_for_dashboard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._trees)[::-1]:
            self.kill(name)
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self, name: str) -> None:
        """A node of one CPU."""
        self._start(name, f"--address={self._ip}:{HEAD_PORTS['port']}", "--num-cpus=1", agent=20100 + len(self._trees))

    def kill(self, name: str) -> None:
        """SIGKILL to all processes of a node, as when its machine dies."""
        process = self._trees.pop(name)
        for pid in tree(process.pid):
            _kill(pid)
        process.wait()

    def _start(self, name: str, *options: str, agent: int) -> None:
        command = [
            self._ray, "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000",
            f"--node-ip-address={self._ip}", f"--dashboard-agent-listen-port={agent}", *options,
        ]  # fmt: skip
        with (self.folder / f"{name}.log").open("ab") as log:
            self._trees[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env, start_new_session=True
            )

    def _wait_for_dashboard(self, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        request = urllib.request.Request(
            f"{self.url}/api/version", headers={"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=2):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the head did not start: {(self.folder / 'head.log').read_text()}") from None
                time.sleep(0.5)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _own_address() -> str:
    """The address that other machines would use: the cluster is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, finds the route
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
