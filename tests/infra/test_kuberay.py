"""What infra/kuberay and infra/monitoring make is what Kubernetes and KubeRay take.

KUBERAY_CRDS names a folder of KubeRay's CRDs (helm-chart/kuberay-operator/crds of its repository, of one version or
several, each in a folder of its own); without it the schema tests are skipped.
"""

import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.infra.tools import INFRA, folder_of, program

KUSTOMIZATIONS = [
    "kuberay/base",
    "kuberay/overlays/small",
    "kuberay/overlays/large",
    "kuberay/rayjob",
    "kuberay/raycronjob",
    "monitoring",
]


@cache
def built(kustomization: str) -> tuple[dict[str, Any], ...]:
    """What `kubectl kustomize` makes of a folder below infra/."""
    kubectl = program("kubectl", "kubernetes-client")
    done = subprocess.run([kubectl, "kustomize", INFRA / kustomization], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def only(kustomization: str, kind: str) -> dict[str, Any]:
    (found,) = (each for each in built(kustomization) if each["kind"] == kind)
    return found


def cluster_specs() -> list[tuple[str, dict[str, Any]]]:
    """Every RayCluster specification that can be applied."""
    return [
        ("small", only("kuberay/overlays/small", "RayCluster")["spec"]),
        ("large", only("kuberay/overlays/large", "RayCluster")["spec"]),
        ("rayjob", only("kuberay/rayjob", "RayJob")["spec"]["rayClusterSpec"]),
        ("raycronjob", only("kuberay/raycronjob", "RayCronJob")["spec"]["jobTemplate"]["rayClusterSpec"]),
    ]


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_kustomize_builds(kustomization: str) -> None:
    assert built(kustomization)


def test_workers_have_longer_to_end_than_ray_drains() -> None:
    for name, spec in cluster_specs():
        pod = spec["workerGroupSpecs"][0]["template"]["spec"]
        drain = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        assert float(drain["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) + 10 <= pod["terminationGracePeriodSeconds"], name


def test_only_the_driver_runs_on_the_head_and_gpus_scale_from_zero() -> None:
    for name, spec in cluster_specs():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", name
        gpu = spec["workerGroupSpecs"][0]
        assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0), name
        assert spec["autoscalerOptions"]["version"] == "v2", name


def test_pods_run_as_an_unprivileged_user_and_request_memory() -> None:
    for name, spec in cluster_specs():
        templates = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        for pod in (each["template"]["spec"] for each in templates):
            assert pod["securityContext"]["runAsNonRoot"], name
            for container in pod["containers"]:
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"], name


def test_secrets_are_referred_to_and_nowhere_written() -> None:
    for kustomization in KUSTOMIZATIONS[1:-1]:
        assert "Secret" not in [each["kind"] for each in built(kustomization)]
    for _, spec in cluster_specs():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            for variable in group["template"]["spec"]["containers"][0]["env"]:
                if "TOKEN" in variable["name"] or "KEY" in variable["name"]:
                    assert "secretKeyRef" in variable["valueFrom"]


def test_nights_do_not_overlap_and_are_retried_only_after_exit_code_1() -> None:
    spec = only("kuberay/overlays/small", "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert container["command"][:3] == ["python", "-m", "jobs.submit"]
    assert "--follow" in container["command"]
    fail = next(rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert fail["onExitCodes"]["values"] == [2, 3, 4]
    assert fail["onExitCodes"]["containerName"] == container["name"]


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_nights_request_as_many_gpus_as_the_largest_number_of_nodes(overlay: str) -> None:
    """The cluster has no GPU when a night begins; what the driver does not ask for, the autoscaler does not start."""
    label = tomllib.loads(only(f"kuberay/overlays/{overlay}", "ConfigMap")["data"]["nightly.toml"])["label"]
    group = only(f"kuberay/overlays/{overlay}", "RayCluster")["spec"]["workerGroupSpecs"][0]
    assert (label["device"], label["actors"]) == ("cuda", group["maxReplicas"])
    cpus = float(group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    assert label["cpus_per_actor"] < cpus


def test_every_image_is_pinned() -> None:
    for _, spec in cluster_specs():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            image = group["template"]["spec"]["containers"][0]["image"]
            assert ":" in image
            assert not image.endswith(":latest")


def test_the_two_rule_files_are_equal() -> None:
    wrapped = yaml.safe_load((INFRA / "monitoring/prometheus-rule.yaml").read_text())["spec"]
    assert wrapped == yaml.safe_load((INFRA / "monitoring/rules.yml").read_text())


def crds() -> list[Path]:
    """Folders of CRDs, one a version."""
    folder = folder_of("KUBERAY_CRDS", "a folder of KubeRay's CRDs (ray.io_rayclusters.yaml and so on)")
    found = sorted({path.parent for path in folder.rglob("ray.io_rayclusters.yaml")})
    assert found, f"no ray.io_rayclusters.yaml below {folder}"
    return found


def strict(schema: Any) -> Any:
    """A CRD's schema as JSON schema that also refuses fields it does not know, as `kubectl apply --validate` does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key != "default"}
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def errors(folder: Path, plural: str, manifest: dict[str, Any]) -> list[str] | None:
    """What a CRD has against a manifest; None where this version has no such kind."""
    path = folder / f"ray.io_{plural}.yaml"
    if not path.exists():
        return None
    versions = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema = next(each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1")
    found = Draft202012Validator(strict(schema)).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_ray_clusters_fit_every_kuberay(overlay: str) -> None:
    for folder in crds():
        assert errors(folder, "rayclusters", only(f"kuberay/overlays/{overlay}", "RayCluster")) == [], folder


@pytest.mark.parametrize(("kind", "name"), [("RayJob", "rayjob"), ("RayCronJob", "raycronjob")])
def test_jobs_fit_every_kuberay_that_has_raycronjobs(kind: str, name: str) -> None:
    tried = [folder for folder in crds() if (folder / "ray.io_raycronjobs.yaml").exists()]  # 1.6 and later
    if not tried:
        pytest.skip("these CRDs are older than KubeRay 1.6")
    for folder in tried:
        assert errors(folder, f"{name}s", only(f"kuberay/{name}", kind)) == [], folder


def test_the_schema_test_detects_a_misspelt_field() -> None:
    manifest = only("kuberay/overlays/small", "RayCluster")
    spec = {**manifest["spec"], "enableAutoscaling": True}
    found = errors(crds()[0], "rayclusters", {**manifest, "spec": spec})
    assert found
    assert "enableAutoscaling" in found[0]
