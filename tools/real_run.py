"""The whole method on a small real language model and public problems: `python -m tools.real_run`.

It makes SmolLM2-135M-Instruct, initialises it on worked solutions of GSM-Symbolic, makes a process reward
model from its responses, and compares strategies by the study of configs/real.toml. The same command
continues after an interruption: a stage is complete, or made again. `times.csv` says what each call of a
stage took, in seconds and in hours of all processors of the machine.
"""

import argparse
import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from subprocess import DEVNULL

import psutil

CONFIGS = Path(__file__).parents[1] / "configs"
TRAINING = ("batch_size=16", "micro_batch_size=4", "dtype=bfloat16")
"""Of both models; the weights stay in float32."""
INITIALISATION = ("learning_rate=2e-5", *TRAINING)
REWARD_TRAINING = ("learning_rate=3e-5", "epochs=2", *TRAINING)
"""Two epochs, because 600 responses make few steps."""
WORKERS = f"sample={psutil.cpu_count()}"
"""A process of vLLM on each core: on two cores they draw twice what one draws."""
UNSEEN = "70-84"
"""Templates of GSM-Symbolic that are only measured."""
STOP_SECONDS = 20
"""For an interrupted command to stop its servers and workers."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; of problems at least, because the gym leaves templates out by chance."""

    solutions: int = 790
    first: int = 200
    train: int = 600
    held_out: int = 400
    unseen: int = 100
    responses: int = 3
    """Of each problem, in the training of the reward model."""
    continuations: int = 4
    """Of each of their steps."""
    tokens: int = 256
    """Of a response at most, where formats are compared."""
    templates: str = "0,2,6,10,13,23,26,29,31,43,53,55,58,59,62,69"
    """Of GSM-Symbolic, on which the policy is initialised, trained and measured."""


class RealRun:
    """The stages, in a folder of their own."""

    def __init__(self, folder: Path, configs: Path, sizes: Sizes, initialisation: Sequence[str]) -> None:
        self.folder, self.configs, self.sizes = folder.absolute(), configs.absolute(), sizes
        self.initialisation = initialisation
        self.home = self.folder / "home"
        self.own = self.home / "study" / "real"  # where the study has its servers
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, seeds: Sequence[str], output: Path) -> None:
        """Go through all stages; raise CalledProcessError where one fails. Nothing stays up."""
        try:
            self._stage("model", self.make_model)
            self._stage("initialisation", self.initialise)
            self._stage("first run", self.sample_first)
            self._stage("reward model", self.make_reward_model)
            self._stage("study", lambda: self.compare(seeds, output))
            self._stage("formats", lambda: self.measure_formats(output))
        finally:
            self._stop()

    def make_model(self) -> None:
        """SmolLM2 as a checkpoint of Hugging Face, in float32."""
        target = self.folder / "smollm2"
        if not target.exists():
            unfinished = self.folder / "smollm2.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self._python("tools.make_smollm2", "--output", str(unfinished), "--downloads", str(self.folder))
            unfinished.rename(target)

    def initialise(self) -> None:
        """M_0, on worked solutions in steps; `train init` continues what was interrupted."""
        if not (self.folder / "m0" / "config.json").exists():
            source = gym(self.sizes.solutions, seed=1, templates=self.sizes.templates)
            self._hsstar("data", "steps", source, "--output", "solutions.jsonl", "--force")
            files = ("--data", "solutions.jsonl", "--model", "smollm2", "--output", "m0")
            self._hsstar("train", "init", *files, "--prompt", "chat", *set_to(self.initialisation))

    def sample_first(self) -> None:
        """The problems, and the responses of M_0 from which the reward model is made."""
        self._start()
        sizes = self.sizes
        for dataset, size, seed, templates in (
            ("gsm-symbolic-first", sizes.first, 200_000, sizes.templates),
            ("gsm-symbolic", sizes.train, 300_000, sizes.templates),
            ("gsm-symbolic-heldout", sizes.held_out, 400_000, sizes.templates),
            ("gsm-symbolic-unseen", sizes.unseen, 500_000, UNSEEN),
        ):
            self._hsstar("problems", "import", gym(size, seed, templates), "--dataset", dataset)
        if "real-first" not in self._said("runs", "list"):
            self._hsstar("runs", "create", "--recipe", str(self.configs / "real-first.toml"))
            self._hsstar("iterate", "real-first")
        self._hsstar("status", "real-first", "--watch")

    def make_reward_model(self) -> None:
        """A process reward model from continuations of the first run's responses."""
        if not (self.folder / "prm" / "config.json").exists():
            numbers = (str(self.sizes.responses), "--continuations", str(self.sizes.continuations))
            source = ("--run", "real-first", "--output", "prm", "--responses")
            self._hsstar("train", "prm", *source, *numbers, *set_to(REWARD_TRAINING))
        self._stop()

    def compare(self, seeds: Sequence[str], output: Path) -> None:
        """The study, in the home where the problems are."""
        chosen = [word for seed in seeds for word in ("--seed", seed)]
        report = str(output.absolute())
        study = ("study", str(self.configs / "real.toml"), "--output", report, "--workers", WORKERS)
        self._hsstar(*study, "--at-once", "2", *chosen, home=self.home)

    def measure_formats(self, output: Path) -> None:
        """The held-out accuracy of M_0 and of each M_1 of HS-STaR in each format of sampling, a file each."""
        self._start()
        known = json.loads(self._said("models", "list", "--json"))
        trained = [row["model"] for row in known if re.fullmatch(r"real-HS-STaR-\d+-M1", row["model"])]
        recipe = (self.configs / "real-first.toml").read_text(encoding="utf-8")
        for policy, dtype in product(("m0", *trained), ("float32", "bfloat16", "float16")):
            file = self.folder / f"{dtype}.toml"
            file.write_text(recipe.replace('dtype = "float32"', f'dtype = "{dtype}"'), encoding="utf-8")
            measured = ("--benchmarks", "gsm-symbolic-heldout", "--problems", str(self.sizes.held_out))
            limits = ("--recipe", str(file), "--max-new-tokens", str(self.sizes.tokens))
            said = self._said("evaluate", policy, *measured, *limits, "--json")
            (output / f"{policy}-{dtype}.json").write_text(said, encoding="utf-8")

    def _start(self) -> None:
        self._stop()  # what a killed call left
        self._hsstar("up", "--workers", WORKERS)

    def _stop(self) -> None:
        running = self._python("hsstar.cli", "db", "url", check=False, stdout=DEVNULL, stderr=DEVNULL)
        if running.returncode == 0:
            self._hsstar("down")

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        begun, busy = time.time(), _busy_seconds()
        print(f"== {name}", flush=True)
        try:
            work()
        finally:
            times = self.folder / "times.csv"
            new = not times.exists()
            with times.open("a", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                if new:
                    rows.writerow(("stage", "seconds", "processor_hours"))
                rows.writerow((name, round(time.time() - begun), round((_busy_seconds() - busy) / 3600, 3)))

    def _hsstar(self, *arguments: str, home: Path | None = None) -> None:
        self._python("hsstar.cli", *arguments, home=home)

    def _said(self, *arguments: str) -> str:
        return self._python("hsstar.cli", *arguments, stdout=subprocess.PIPE).stdout

    def _python(
        self,
        *arguments: str,
        home: Path | None = None,
        check: bool = True,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(CONFIGS.parent), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"HSSTAR_HOME": str(home or self.own), "PYTHONPATH": path}
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr, text=True
        )
        try:
            said = process.communicate()
        except KeyboardInterrupt:
            _let_end(process)
            raise
        done = subprocess.CompletedProcess(command, process.returncode, *said)
        if check:
            done.check_returncode()
        return done


def _let_end(process: "subprocess.Popen[str]") -> None:
    """Let a command stop what it started: Ctrl-C has reached it too, another signal perhaps not."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    process.terminate()
    process.wait()


def set_to(settings: Sequence[str]) -> list[str]:
    """Return the options that give a training these settings."""
    return [word for setting in settings for word in ("--set", setting)]


def gym(size: int, seed: int, templates: str) -> str:
    """Return the name of `size` problems and some more: templates are drawn evenly, and others left out."""
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok  # templates that have no fault

    chosen = set[int]()
    for part in templates.split(","):
        first, _, last = part.partition("-")
        chosen.update(range(int(first), int(last or first) + 1))
    enough = size + 4 * math.isqrt(size) + 4  # four standard deviations
    drawn = enough * len(tasks_ok) // len(chosen & set(tasks_ok))
    return f"gym:gsm_symbolic?size={drawn}&seed={seed}&templates={templates}"


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def main() -> None:
    """Read the command line and go through the stages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for models, servers and rows")
    parser.add_argument("--output", type=Path, help="of the study's report (FOLDER/report)")
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="with real.toml and real-first.toml")
    parser.add_argument("--seed", dest="seeds", action="append", default=[], help="only this seed")
    for field in fields(Sizes):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
    parser.add_argument("--set", dest="initialisation", action="append", metavar="KEY=VALUE", default=[])
    arguments = parser.parse_args()
    sizes = Sizes(*(getattr(arguments, field.name) for field in fields(Sizes)))
    settings = arguments.initialisation or INITIALISATION
    run = RealRun(arguments.folder, arguments.configs, sizes, settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run.run(arguments.seeds, arguments.output or run.folder / "report")
    except subprocess.CalledProcessError as error:
        sys.exit(f"real_run: {' '.join(map(str, error.cmd[2:]))} ended with {error.returncode}")
    except KeyboardInterrupt:
        print("real_run: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
