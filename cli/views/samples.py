"""Samples for people: the problem once, then each response step by step; and as rows for programs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hsstar.cli.options import Format
from hsstar.cli.text import visible
from hsstar.cli.views.output import console, show, shown
from hsstar.domain.selections import RIGHT_REWARD
from hsstar.insights.samples import address_of, steps_of
from hsstar.store.read.samples import Sample

if TYPE_CHECKING:
    from hsstar.commands.explanations import Explanation

_FIELDS = [field.name for field in fields(Sample) if field.name not in ("step_rule", "step_spans")]

Explain = Callable[[Sample], "Explanation"]
"""Says how the verdict on a sample comes about."""

_COLUMNS: dict[str, Callable[[Sample], Any]] = {
    "address": lambda sample: str(address_of(sample)),
    "phase": lambda sample: sample.phase,
    "level": lambda sample: sample.level,
    "verdict": lambda sample: sample.verdict,
    "cause": lambda sample: sample.cause,
    "S(r)": lambda sample: sample.min_reward,
    "tokens": lambda sample: sample.tokens,
    "answer": lambda sample: sample.answer,
    "reference": lambda sample: sample.reference,
}


def show_samples(samples: Sequence[Sample], shown_as: Format, explain: Explain | None = None) -> None:
    """Print samples: in full for people, their figures in Markdown, every field for programs."""
    match shown_as:
        case "table":
            for line in _lines(samples, explain):
                console.print(line)
        case "markdown":
            rows = [[read(sample) for read in _COLUMNS.values()] for sample in samples]
            show(list(_COLUMNS), rows, shown_as=shown_as)
        case _:
            records = [_record(sample, explain) for sample in samples]
            names = ["address", *_FIELDS, *(["why"] if explain else [])]
            show(names, [[record[name] for name in names] for record in records], shown_as=shown_as)


def _record(sample: Sample, explain: Explain | None) -> Mapping[str, Any]:
    record = {"address": str(address_of(sample))} | asdict(sample)
    return record | ({"why": _why(explain(sample))} if explain else {})


def _why(explanation: "Explanation") -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in explanation.items())


def _lines(samples: Iterable[Sample], explain: Explain | None) -> Iterator[Text]:
    for problem_id, group in groupby(samples, key=lambda sample: sample.problem_id):
        members = list(group)
        first = members[0]
        yield from problem_lines(problem_id, first.statement, first.reference)
        for sample in members:
            yield Text()
            yield from sample_lines(sample)
            if explain is not None:
                yield _indented(f"why: {_why(explain(sample))}")
        yield Text()


def problem_lines(problem_id: int, statement: str, reference: str) -> Iterator[Text]:
    """Yield a problem and its reference answer."""
    yield Text.assemble((f"problem {problem_id}  ", "bold"), visible(_inner(statement)))
    yield _indented(f"reference: {reference}")


def sample_lines(sample: Sample) -> Iterator[Text]:
    """Yield a sample: what became of it, its steps with their rewards, where it comes from."""
    yield _head(sample)
    if sample.response is None:
        yield _indented("its text is no longer stored")
    for step in steps_of(sample):
        reward = "    " if step.reward is None else f"{step.reward:.2f}"
        yield Text.assemble(
            "  ", (reward, _style(step.reward)), "  ", visible(_inner(step.text, " " * len("  0.00  ")))
        )
    if sample.response is not None and len(sample.response) < (sample.characters or 0):
        yield _indented(
            f"… {sample.characters:,} characters in all; whole: hsstar samples show {address_of(sample)}"
        )
    yield _indented(" · ".join(_origin(sample)))


def _head(sample: Sample) -> Text:
    colour = {"correct": "green", "incorrect": "red"}.get(sample.verdict or "", "yellow")
    verdict = sample.verdict or ("no verdict" if sample.cause else "not verified yet")
    cause = "" if sample.cause in (None, sample.verdict) else f" ({sample.cause})"
    parts = [part for part in (sample.phase, sample.level) if part]
    if sample.min_reward is not None:
        parts.append(f"S(r) {sample.min_reward:.2f}{_disagreement(sample)}")
    if len(sample.rewards) > 1:
        parts += [f"{name} {value:.2f}" for name, value in sample.rewards.items()]
    if sample.tokens is not None:
        parts.append(f"{sample.tokens} tokens{', cut' if sample.finish_reason == 'length' else ''}")
    if sample.pair is not None:
        parts.append(
            f"{sample.pair} {'over' if sample.pair == 'chosen' else 'for'} slot {sample.partner_slot}"
        )
    if sample.judged_again:
        parts.append("judged more than once")
    head = Text.assemble((visible(str(address_of(sample))), "bold"), "  ", (verdict + cause, colour))
    return head.append(visible("".join(f"  {part}" for part in parts)))


def _disagreement(sample: Sample) -> str:
    if sample.min_reward is None or sample.verdict is None:
        return ""
    says_right = sample.min_reward >= RIGHT_REWARD
    if says_right == (sample.verdict == "correct"):
        return ""
    return f", which says {'right' if says_right else 'wrong'}"


def _origin(sample: Sample) -> Iterator[str]:
    if sample.cause is not None:
        yield "no answer" if sample.answer is None else f"answer: {sample.answer}"
    if sample.cause_detail is not None:
        yield sample.cause_detail
    yield sample.model or "imported"
    if sample.engine is not None:
        yield sample.engine
    if sample.seed is not None:
        yield f"seed {sample.seed}"
    if sample.cumulative_logprob is not None:
        yield f"log-probability {sample.cumulative_logprob:.2f}"
    if sample.worker is not None:
        yield sample.worker
    yield shown(sample.created_at)


def _style(reward: float | None) -> str:
    if reward is None:
        return ""
    return "green" if reward >= 0.75 else "yellow" if reward >= RIGHT_REWARD else "red"


def _indented(text: str) -> Text:
    return Text(f"  {visible(_inner(text, '  '))}")


def _inner(text: str, indent: str = "  ") -> str:
    """Return a text whose further lines stand below its first one."""
    return text.replace("\n", f"\n{indent}")
