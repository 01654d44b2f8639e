"""A Ray cluster of real processes on this machine: a head without CPUs and nodes that join it, each a process tree."""

import contextlib
import itertools
import json
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

START_TRIES = 10
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
        self._agent_ports = itertools.count(20100)
        self._trees: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://127.0.0.1:{HEAD_PORTS['dashboard-port']}"

    def __enter__(self) -> "Cluster":
        ports = [f"--{name}={port}" for name, port in HEAD_PORTS.items()]
        try:
            self._start("head", "--head", "--num-cpus=0", f"--temp-dir={self.folder}", *ports)
        except BaseException:
            self.kill("head")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._trees)[::-1]:
            self.kill(name)
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self, name: str) -> None:
        """A node of one CPU, alive when this returns."""
        self._start(name, f"--address={self._ip}:{HEAD_PORTS['port']}", "--num-cpus=1")

    def node_of(self, title: str) -> str:
        """The node that runs a process whose title begins so."""
        for name, process in self._trees.items():
            for pid in tree(process.pid):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_text().startswith(title):
                        return name
        raise RuntimeError(f"no node runs {title}")

    def kill(self, name: str) -> None:
        """SIGKILL to all processes of a node, as when its machine dies."""
        process = self._trees.pop(name)
        for pid in tree(process.pid):
            _kill(pid)
        process.wait()

    def _start(self, name: str, *options: str) -> None:
        """Start a node and wait until it is alive. On a busy machine Ray gives up after 30 s: it is asked again."""
        before = self._alive()
        for _ in range(START_TRIES):
            command = [
                self._ray, "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000",
                f"--node-ip-address={self._ip}", f"--dashboard-agent-listen-port={next(self._agent_ports)}", *options,
            ]  # fmt: skip
            with (self.folder / f"{name}.log").open("ab") as log:
                self._trees[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env, start_new_session=True
                )
            while self._trees[name].poll() is None:
                if self._alive() - before:
                    return
                time.sleep(1)
        raise RuntimeError(f"{name} did not start: {(self.folder / f'{name}.log').read_text()}")

    def ask(self, path: str) -> str:
        """What the dashboard answers."""
        header = {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", headers=header), timeout=10) as answer:
            return str(answer.read().decode())

    def _alive(self) -> set[str]:
        """Ids of the living nodes, the head included; none while the dashboard does not answer."""
        try:
            nodes = json.loads(self.ask("/nodes?view=summary"))["data"]["summary"]
        except OSError:
            return set()
        return {node["raylet"]["nodeId"] for node in nodes if node["raylet"].get("state") == "ALIVE"}


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
