"""Samples of a database: taken in, looked at, drawn and judged again, pruned."""

from collections.abc import Callable, Collection
from contextlib import closing
from datetime import datetime
from typing import Literal

from hsstar.api import again
from hsstar.api.filters import one_of
from hsstar.api.opened import Opened
from hsstar.api.reading import Names, Paths, sample_files, warn_of
from hsstar.commands import explanations, prune_samples, redraw, samples, verdicts
from hsstar.commands.author import author
from hsstar.commands.explanations import Explanation
from hsstar.commands.prune_samples import PrunedRound
from hsstar.commands.redraw import Redrawn
from hsstar.commands.reverify import Change, ReverifyRequest, RoundReport
from hsstar.commands.samples import SampleImportReport
from hsstar.commands.verdicts import Correction
from hsstar.data.bad_rows import BadRows
from hsstar.domain.addresses import SampleAddress
from hsstar.domain.errors import BadInputError
from hsstar.domain.verdict import Verdict
from hsstar.insights.runs import find_run
from hsstar.insights.samples import find_sample
from hsstar.store.read.samples import Sample
from hsstar.verifier.kinds import make_verifier
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers


class DrawnSamples(Opened):
    """Samples, by their addresses or ids; the selections of a run have them as rows."""

    def import_samples(
        self,
        run: str,
        files: Names,
        dataset: str | None = None,
        *,
        mapping: Paths | None = None,
        skip_bad: int = 0,
        allow_unreadable: bool = False,
    ) -> SampleImportReport:
        """Add an iteration to a run whose pre-samples are responses of files that were drawn elsewhere.

        The dataset is by default the recipe's; `mapping` and `skip_bad` are those of `import_problems`.
        """
        stored, bad = find_run(self._database, run), BadRows(skip_bad)
        report = samples.import_samples(
            self._database,
            stored,
            sample_files(files, mapping, bad),
            dataset or stored.recipe.problems.dataset,
            allow_unreadable=allow_unreadable,
        )
        warn_of(bad)
        return report

    def sample(self, address: str) -> Sample:
        """Return the sample at an address such as `demo/0/17/3`, whole; raise NotFoundError without it."""
        return find_sample(self._database, SampleAddress.parse(address))

    def redraw(self, address: str) -> Redrawn:
        """Draw the sample at an address again, with its engine, seed and parameters, to be compared.

        The policy is loaded in this process. Raise BadInputError for an imported sample, CheckpointError if
        the policy is gone.
        """
        return redraw.redraw(self._database, SampleAddress.parse(address), self.sample(address))

    def explain_verdict(self, address: str) -> Explanation:
        """Say how the verdict on the sample at an address comes about, by the verifier of today."""
        with closing(OpenVerifiers(lambda settings: make_verifier(settings, 1))) as verifiers:
            return explanations.explain(self._database, verifiers, self.sample(address))

    def prune_samples(
        self,
        before: datetime,
        *,
        keep: Collection[Literal["pairs", "correct"]] = (),
        run: str | None = None,
        dry_run: bool = False,
    ) -> list[PrunedRound]:
        """Delete the texts of rounds that were done before a moment; verdicts, rewards and pairs stay."""
        return prune_samples.prune_samples(self._database, before.astimezone(), keep, run, dry_run=dry_run)

    def reverify(
        self,
        *,
        dataset: str | None = None,
        evaluation: int | None = None,
        dry_run: bool = False,
        change_evaluations: bool = False,
        verifier: str | None = None,
        on_change: Callable[[Change], None] | None = None,
    ) -> list[RoundReport]:
        """Judge samples again as `RunHandle.reverify` does: those of a dataset in all runs, or an evaluation.

        An evaluation is its `round_id`. Raise BadInputError unless one of the two is given.
        """
        if (dataset is None) == (evaluation is None):
            raise BadInputError("give one of dataset and evaluation; for a run: RunHandle.reverify")
        request = ReverifyRequest(
            dataset=dataset, evaluation=evaluation, author=author(), dry_run=dry_run,
            change_evaluations=change_evaluations,
        )  # fmt: skip
        return again.reverify(self._database, self._settings, request, verifier, on_change)

    def set_verdict(
        self, sample_id: int, verdict: Verdict | str, why: str, *, change_evaluations: bool = False
    ) -> Correction:
        """Record your verdict on a sample, with the reason; no verifier changes it later."""
        return verdicts.set_verdict(
            self._database,
            sample_id,
            one_of(Verdict, "verdict", verdict),
            why,
            author(),
            self._settings,
            change_evaluations=change_evaluations,
        )
