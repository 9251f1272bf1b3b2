"""Roles and GPUs become processes: every GPU has one owner, and what cannot be is refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import BadInputError
from hsstar.local.gpus import visible_gpus
from hsstar.local.placement import GPU_ROLES, ROLES, PlannedWorker, choose_gpus, parse_roles, plan_workers
from tests.unit.tables import tables

EIGHT = tuple(map(str, range(8)))
TABLES = tables("plan")
role_counts = st.dictionaries(st.sampled_from(ROLES), st.none() | st.integers(1, 9), min_size=1)


@pytest.mark.parametrize(("roles", "gpus", "each", "workers"), TABLES["planned"])
def test_roles_share_the_gpus_and_one_without_a_number_takes_what_the_others_leave(
    roles: str, gpus: list[str], each: dict[str, int], workers: dict[str, list[str]]
) -> None:
    """Several without a number get one process each; verification, and a machine without GPUs, need none."""
    found = {worker.name: [*worker.gpus] for worker in plan_workers(parse_roles(roles), (*gpus,), each)}
    assert [*found.items()] == [*workers.items()]


@pytest.mark.parametrize(("roles", "gpus", "message"), TABLES["refused"])
def test_what_cannot_be_is_refused_in_one_line(roles: str, gpus: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        plan_workers(parse_roles(roles), choose_gpus(gpus, EIGHT), {})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_gpu_on_a_machine_without_any() -> None:
    assert choose_gpus("all", ()) == choose_gpus("none", EIGHT) == ()
    with pytest.raises(BadInputError, match="there is no GPU '0' here; there is none"):
        choose_gpus("0", ())


@given(role_counts, st.integers(0, 16), st.integers(1, 3))
def test_every_gpu_has_one_owner_and_names_are_unique(
    roles: dict[str, int | None], machine: int, each: int
) -> None:
    gpus = tuple(map(str, range(machine)))
    needs = {role: each if role in ("train", "all") else int(role in GPU_ROLES) for role in ROLES}
    try:
        workers = plan_workers(roles, gpus, {"train": each, "all": each})
    except BadInputError:
        assert sum((count or 1) * needs[role] for role, count in roles.items()) > machine > 0
        return
    used = [gpu for worker in workers for gpu in worker.gpus]
    assert len(used) == len(set(used))
    assert set(used) <= set(gpus)
    assert len({worker.name for worker in workers}) == len(workers)
    for role, count in roles.items():
        found = [worker for worker in workers if worker.role == role]
        assert len(found) == count if count else found
        assert {len(worker.gpus) for worker in found} == {needs[role] if machine else 0}


@given(st.text("samplecorvfyin:=,0123456789 ", max_size=24))
def test_any_text_is_roles_or_refused(text: str) -> None:
    try:
        counts = parse_roles(text)
    except BadInputError:
        return
    assert counts
    assert set(counts) <= set(ROLES)


def test_the_environment_of_a_worker_keeps_what_the_user_has_set() -> None:
    worker = PlannedWorker("sample-gpu3", "sample", ("3",))
    always = {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "OMP_WAIT_POLICY": "PASSIVE"}
    assert worker.environment({}, 4) == always | {"OMP_NUM_THREADS": "4"}
    assert worker.environment({"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "3,4"}, 4) == always
    assert PlannedWorker("verify-cpu1", "verify").environment({}, 1)["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("visible", "expected"), TABLES["visible"])
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str | None, expected: list[str]) -> None:
    """A beginning of two UUIDs is none, and the list ends there."""
    assert [*visible_gpus(("GPU-aa11", "GPU-ab22", "GPU-b333"), visible)] == expected
    assert visible_gpus((), visible) == ()
