"""Roles and GPUs become processes: every GPU has one owner, and what cannot be is refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import BadInputError
from hsstar.local.gpus import visible_gpus
from hsstar.local.placement import GPU_ROLES, ROLES, PlannedWorker, choose_gpus, parse_roles, plan_workers

EIGHT = tuple(map(str, range(8)))
UUIDS = ("GPU-aa11", "GPU-ab22", "GPU-b333")
role_counts = st.dictionaries(st.sampled_from(ROLES), st.none() | st.integers(1, 9), min_size=1)


def planned(roles: str, gpus: tuple[str, ...] = EIGHT, **each: int) -> dict[str, tuple[str, ...]]:
    return {worker.name: worker.gpus for worker in plan_workers(parse_roles(roles), gpus, each)}


def test_eight_gpus_of_two_roles() -> None:
    assert planned("sample=6,score=2") == {f"sample-gpu{gpu}": (str(gpu),) for gpu in range(6)} | {
        "score-gpu6": ("6",),
        "score-gpu7": ("7",),
    }


def test_a_single_role_without_a_number_takes_what_the_others_leave() -> None:
    assert [*planned("sample", ("0", "3"))] == ["sample-gpu0", "sample-gpu3"]
    assert [*planned("sample,score=1,verify=2", ("0", "1", "2"))] == [
        "sample-gpu0", "sample-gpu1", "score-gpu2", "verify-cpu1", "verify-cpu2",
    ]  # fmt: skip


def test_several_roles_without_a_number_get_one_process_each() -> None:
    assert [*planned("sample,score,verify")] == ["sample-gpu0", "score-gpu1", "verify-cpu1"]


def test_verification_takes_no_gpu() -> None:
    assert planned("verify=2") == {"verify-cpu1": (), "verify-cpu2": ()}


def test_without_gpus_everything_works_on_the_cpu() -> None:
    assert planned("sample=2,all", ()) == {"sample-cpu1": (), "sample-cpu2": (), "all-cpu1": ()}


def test_a_process_may_need_several_gpus() -> None:
    assert planned("sample,train=1", ("0", "1", "2"), train=2) == {
        "sample-gpu0": ("0",),
        "train-gpu1-gpu2": ("1", "2"),
    }
    assert [*planned("all", train=4, all=4)] == ["all-gpu0-gpu1-gpu2-gpu3", "all-gpu4-gpu5-gpu6-gpu7"]


@pytest.mark.parametrize(
    ("roles", "gpus", "message"),
    [
        ("sample=6,score=2", "0,1", "sample=6,score=2 would take 8 GPUs, and there are 2: 0, 1"),
        ("sample,score=2", "0,1", "sample=1,score=2 would take 3 GPUs, and there are 2: 0, 1"),
        ("sample,score", "5", "sample=1,score=1 would take 2 GPUs, and there is 1: 5"),
        ("sample", "8", "there is no GPU '8' here; there are 8: 0, 1, 2, 3, 4, 5, 6, 7"),
        ("sample", "0,", "there is no GPU '' here"),
        ("sample", "1,1", "GPU 1 is named twice in '1,1'"),
        ("sample:6", "all", "'sample:6' is not ROLE or ROLE=NUMBER with a role of sample, score"),
        ("sample=", "all", "'sample=' is not"),
        ("sample=x", "all", "'sample=x' is not"),
        ("sample=0,verify=0", "all", "these roles ask for no worker"),
        ("draw", "all", "'draw' is not"),
        ("", "all", "'' is not"),
        ("sample=1,sample=2", "all", "the role sample is named twice"),
    ],
)
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
    try:
        workers = plan_workers(roles, gpus, {"train": each, "all": each})
    except BadInputError:
        needed = sum((count or 1) * (each if role in ("train", "all") else 1)
                     for role, count in roles.items() if role in GPU_ROLES)  # fmt: skip
        assert needed > machine > 0
        return
    used = [gpu for worker in workers for gpu in worker.gpus]
    assert len(used) == len(set(used))
    assert set(used) <= set(gpus)
    assert len({worker.name for worker in workers}) == len(workers)
    for role, count in roles.items():
        found = [worker for worker in workers if worker.role == role]
        assert len(found) == count if count else found
        needs = each if role in ("train", "all") else int(role in GPU_ROLES)
        assert {len(worker.gpus) for worker in found} == {needs if machine else 0}


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
    assert worker.environment({}, 4) == {
        "CUDA_VISIBLE_DEVICES": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": "4",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert worker.environment({"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "3,4"}, 4) == {
        "CUDA_VISIBLE_DEVICES": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert PlannedWorker("verify-cpu1", "verify").environment({}, 1)["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ("0", "1", "2")),
        ("", ()),
        ("2,0", ("2", "0")),
        (" 1 , 2 ", ("1", "2")),
        ("0,-1,2", ("0",)),
        ("0,9,2", ("0",)),
        ("1,1", ("1",)),
        ("GPU-b333,GPU-aa", ("2", "0")),
        ("GPU-a,0", ()),  # of two GPUs, and so of none
        ("MIG-77", ("MIG-77",)),
        ("NoDevFiles", ()),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    visible: str | None, expected: tuple[str, ...]
) -> None:
    assert visible_gpus(UUIDS, visible) == expected


def test_a_machine_without_gpus_has_none_whatever_is_visible() -> None:
    assert visible_gpus((), None) == visible_gpus((), "0,1") == visible_gpus((), "MIG-77") == ()
