"""The runbook's ten commands, as far as a machine without a cluster can run them."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.infra.tools import INFRA, program


def commands() -> list[str]:
    """The lines of the runbook's first block of commands."""
    runbook = (INFRA / "README.md").read_text()
    return re.findall(r"```sh\n(.*?)```", runbook, re.DOTALL)[0].strip().splitlines()


def shell(command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={"PATH": f"{Path(program('kubectl', 'kubernetes-client')).parent}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_ten() -> None:
    assert len(commands()) == 10


def test_secrets_and_namespace_are_made_by_commands_that_kubectl_takes(tmp_path: Path) -> None:
    (tmp_path / "head.env").write_text("AWS_ACCESS_KEY_ID=k\nAWS_SECRET_ACCESS_KEY=s\n")
    (tmp_path / "worker.env").write_text("AWS_ACCESS_KEY_ID=k\nAWS_SECRET_ACCESS_KEY=s\n")
    made = {}
    for command in commands()[2:6]:
        found = yaml.safe_load(shell(f"{command} --dry-run=client -o yaml", tmp_path))
        made[found["metadata"]["name"]] = found
    assert list(made) == ["sam2-corpus", "sam2-ray-token", "sam2-storage-head", "sam2-storage-worker"]
    assert list(made["sam2-ray-token"]["data"]) == ["auth_token"]
    assert len(made["sam2-ray-token"]["data"]["auth_token"]) == 88  # base64 of 64 hexadecimal digits, no newline


def test_after_them_nothing_is_left_to_change(tmp_path: Path) -> None:
    shutil.copytree(INFRA, tmp_path / "infra")
    shell(commands()[6], tmp_path, REGISTRY="r.io/team", SOURCES="my-videos", LABELS="my-labels")
    for command in commands()[7:9]:
        folder = command.removeprefix("kubectl apply -k ")
        built = shell(f"kubectl kustomize {folder}", tmp_path)
        assert "CHANGE-ME" not in built
        assert "example.com" not in built
    small = shell("kubectl kustomize infra/kuberay/overlays/small", tmp_path)
    assert "r.io/team/sam2-corpus:0.1.0" in small
    assert "s3://my-labels/corpus" in small


def test_paths_and_names_in_the_runbook_exist() -> None:
    runbook = (INFRA / "README.md").read_text()
    for path in re.findall(
        r"`((?:kuberay|overlays|components|monitoring|s3|slurm|compose|base|rayjob|raycronjob)/[\w./-]*)`", runbook
    ):
        inside = (
            INFRA / "kuberay" / path
            if path.split("/")[0] in ("overlays", "components", "base", "rayjob", "raycronjob")
            else INFRA / path
        )
        assert inside.exists(), path
    assert "cronjob/sam2-nightly" in commands()[9]
