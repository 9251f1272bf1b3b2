"""Write the files of a study: a table as Markdown and CSV, every run as CSV, plots as PNG and SVG."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hsstar.domain.statistics import Difference, Mean
from hsstar.study.document import Study
from hsstar.study.metrics import RunMetrics, StrategyMetrics, compare
from hsstar.study.plots import draw
from hsstar.study.tables import write_rows, write_runs

Table = list[list[str]]


def write_report(study: Study, metrics: Sequence[RunMetrics], folder: Path) -> list[Path]:
    """Write NAME.md, NAME.csv, NAME-runs.csv, NAME.png and NAME.svg; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    name = study.document.name
    strategies = compare(study, metrics)
    text = folder / f"{name}.md"
    text.write_text(markdown(study, metrics, strategies), encoding="utf-8")
    summary, runs = folder / f"{name}.csv", folder / f"{name}-runs.csv"
    write_rows(summary, _summary_rows(study, strategies))
    write_runs(runs, metrics)
    return [text, summary, runs, *draw(study, strategies, folder)]


def markdown(study: Study, metrics: Sequence[RunMetrics], strategies: Sequence[StrategyMetrics]) -> str:
    """Return all tables as Markdown, each with what its figures mean."""
    document, recipe = study.document, study.runs[0].recipe
    rewards = ", ".join(f"`{reward.model if reward.has_model else reward.kind}`" for reward in recipe.scoring)
    seeds = [run.run.seed for run in metrics if run.run.strategy == document.reference]
    head = (
        f"# Study {document.name}\n\n"
        f"{len(seeds)} of {len(document.seeds)} seeds ({', '.join(map(str, seeds))}), "
        f"{document.iterations} iterations of {recipe.problems.per_iteration} problems × "
        f"{recipe.sampling.n} samples, policy `{recipe.policy.model}`, reward model {rewards or '`none`'}, "
        f"{recipe.evaluation.problems or 'all'} held-out problems of `{recipe.evaluation.dataset}`.\n"
    )
    policies = [f"M_{t}" for t in range(document.iterations + 1)]
    numbers = [f"iteration {t}" for t in range(document.iterations)]
    parts = [
        (
            "Held-out accuracy",
            "Mean over the seeds ± its standard error.",
            ["strategy", *policies],
            [[strategy.strategy, *map(_mean, strategy.accuracies)] for strategy in strategies],
        ),
        (
            f"Difference to {document.reference}, in points",
            f"Paired by seed: mean [{document.confidence:.0%} confidence interval by Student's t]. "
            "The intervals are not corrected for the number of comparisons.",
            ["strategy", *policies[1:]],
            [
                [strategy.strategy, *map(_points, strategy.differences[1:])]
                for strategy in strategies
                if strategy.strategy != document.reference
            ],
        ),
        _use_of_budget(strategies, numbers),
        (
            "What the strategies saw",
            "Share of the problems that were labelled boundary, and how well the minimum step reward tells "
            "right from wrong samples (area under the ROC curve), per iteration.",
            ["strategy", *(f"boundary, {n}" for n in numbers), *(f"AUC, {n}" for n in numbers)],
            [_seen(strategy, metrics) for strategy in strategies],
        ),
    ]
    return head + "".join(_section(*part) for part in parts)


def _use_of_budget(
    strategies: Sequence[StrategyMetrics], numbers: Sequence[str]
) -> tuple[str, str, list[str], list[list[str]]]:
    """Return title, words, columns and rows of the table of what became of the budget."""
    rows = []
    for strategy in strategies:
        counts = (strategy.distinct_pairs, strategy.rows_trained, strategy.optimiser_steps, *strategy.pairs)
        shares = (_mean(strategy.pairs_per_sample), _mean(strategy.share_trained))
        whole = [f"{count.value:.0f}" for count in counts]
        rows.append([strategy.strategy, f"{strategy.spent.value:.0%}", *shares, *whole])
    return (
        "Use of the budget",
        "Over all iterations: samples drawn of the budget, preference pairs per sample drawn, the share "
        "of the budget that became training data (two samples a pair), pairs with different texts, rows "
        "that the optimiser saw and the steps that it took; then pairs per iteration. Strategies are "
        "compared at equal samples, and only where the steps are equal at equal steps.",
        [
            "strategy",
            "drawn",
            "pairs per sample",
            "share trained",
            "distinct pairs",
            "rows trained",
            "optimiser steps",
            *(f"pairs, {number}" for number in numbers),
        ],
        rows,
    )


def _seen(strategy: StrategyMetrics, metrics: Sequence[RunMetrics]) -> list[str]:
    own = [run.iterations for run in metrics if run.run.strategy == strategy.strategy]
    quality = []
    for iterations in zip(*own, strict=True):
        known = [row.reward_auc for row in iterations if row.reward_auc is not None]
        quality.append(f"{sum(known) / len(known):.3f}" if known else "–")
    return [strategy.strategy, *(f"{share.value:.0%}" for share in strategy.boundary), *quality]


def _section(title: str, meaning: str, columns: list[str], rows: Table) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"\n## {title}\n\n{meaning}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mean(mean: Mean) -> str:
    error = "" if mean.standard_error is None else f" ± {mean.standard_error:.4f}"
    return f"{mean.value:.4f}{error}"


def _points(difference: Difference) -> str:
    mean = f"{100 * difference.mean.value:+.2f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def _summary_rows(study: Study, strategies: Sequence[StrategyMetrics]) -> Iterable[dict[str, Any]]:
    for strategy in strategies:
        for policy, (accuracy, difference) in enumerate(
            zip(strategy.accuracies, strategy.differences, strict=True)
        ):
            yield {
                "study": study.document.name,
                "strategy": strategy.strategy,
                "policy": policy,
                "seeds": accuracy.count,
                "accuracy": accuracy.value,
                "standard_error": accuracy.standard_error,
                "difference": difference.mean.value,
                "difference_standard_error": difference.mean.standard_error,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "reference": study.document.reference,
                "confidence": study.document.confidence,
                "pairs_per_sample": strategy.pairs_per_sample.value,
                "share_trained": strategy.share_trained.value,
                "distinct_pairs": strategy.distinct_pairs.value,
                "rows_trained": strategy.rows_trained.value,
                "optimiser_steps": strategy.optimiser_steps.value,
            }
