"""The storage policies, asked with a small evaluator: who may do what to which object."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.infra.tools import INFRA

PART, CHECKPOINT = "LABELS/OUTPUT/parts/ab/v/k.parquet", "LABELS/OUTPUT/checkpoints/ab/v/k/0001"
TABLE, FAILURE, SOURCE = "LABELS/OUTPUT/masks/f.parquet", "LABELS/OUTPUT/failures/ab/v/k.json", "SOURCES/v.mp4"
LEASE, RUN, NIGHT = "LABELS/OUTPUT/leases/main/1.json", "LABELS/OUTPUT/runs/r/run.json", "LABELS/OUTPUT/nights/n/r.json"
STATE, KEPT = "LABELS/OUTPUT/publish/state.parquet", "LABELS/OUTPUT/states/ab/v/k/index.json"

MAY = {
    "worker": {
        "GetObject": {PART, CHECKPOINT, KEPT, SOURCE},
        "PutObject": {PART, CHECKPOINT, KEPT},
        "DeleteObject": {CHECKPOINT, KEPT},
    },
    "head": {
        "GetObject": {PART, CHECKPOINT, KEPT, TABLE, FAILURE, SOURCE, LEASE, RUN, NIGHT, STATE},
        "PutObject": {TABLE, FAILURE, LEASE, RUN, NIGHT, STATE},
        "DeleteObject": {CHECKPOINT, FAILURE, LEASE, STATE},
    },
    "upkeep": {"GetObject": set(), "PutObject": set(), "DeleteObject": {PART, KEPT, TABLE}},
    "forget": {
        "GetObject": {PART, CHECKPOINT, KEPT, TABLE, FAILURE, LEASE, RUN, NIGHT, STATE},
        "PutObject": {TABLE, RUN, NIGHT, STATE},
        "DeleteObject": {PART, CHECKPOINT, KEPT, TABLE, FAILURE, LEASE, RUN, NIGHT, STATE},
    },
    "reader": {"GetObject": {TABLE}, "PutObject": set(), "DeleteObject": set()},
}
ALL = {PART, CHECKPOINT, KEPT, TABLE, FAILURE, SOURCE, LEASE, RUN, NIGHT, STATE}


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((INFRA / f"s3/{name}.json").read_text())["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def concerns(statement: dict[str, Any], action: str, thing: str) -> bool:
    return any(fnmatchcase(f"s3:{action}", each) for each in listed(statement["Action"])) and any(
        fnmatchcase(f"arn:aws:s3:::{thing}", each) for each in listed(statement["Resource"])
    )


@pytest.mark.parametrize("name", MAY)
def test_each_role_may_do_what_it_must_and_no_more(name: str) -> None:
    for action, things in MAY[name].items():
        allowed = {thing for thing in ALL if any(concerns(each, action, thing) for each in statements(name))}
        assert allowed == things, action
    assert all(each["Effect"] == "Allow" and "s3:*" not in listed(each["Action"]) for each in statements(name))


def test_nobody_overwrites_a_part_and_two_roles_delete_one() -> None:
    create, delete, tls = statements("bucket-policy")
    assert [each["Effect"] for each in (create, delete, tls)] == ["Deny"] * 3
    assert concerns(create, "PutObject", PART)
    assert create["Condition"]["Null"] == {"s3:if-none-match": "true"}
    assert not concerns(create, "PutObject", TABLE)
    assert concerns(delete, "DeleteObject", PART)
    allowed = delete["Condition"]["ArnNotLike"]["aws:PrincipalArn"]
    assert [each.rsplit("sam2-", 1)[-1] for each in allowed] == ["upkeep", "forget"]
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_no_part_and_no_table_dies_of_age() -> None:
    rules = json.loads((INFRA / "s3/lifecycle.json").read_text())["Rules"]
    expiring = [rule["Filter"]["Prefix"] for rule in rules if "Days" in rule.get("Expiration", {})]
    assert sorted(expiring) == ["OUTPUT/checkpoints/", "OUTPUT/probes/"]
