"""A process that does one sampling job by the real stage and engine: `DATABASE_URL JOB_ID`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hsstar.engines.sampling.contract import SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.stages import sample
from hsstar.store.database import Database
from tests.store.drawing import Results, make_context
from tests.store.factory import claim


class SmallBatches(TransformersSampler):
    """The real sampler, which takes many batches for one job and tells how much it was asked for."""

    def __init__(self, model: str | Path) -> None:
        super().__init__(model, device="cpu", batch_size=8)
        self.asked: list[int] = []

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
        self.asked.append(len(requests))
        return super().draw(requests, parameters)


if __name__ == "__main__":
    database = Database(sys.argv[1])
    with database.begin() as connection:
        job = claim(connection, int(sys.argv[2]), "killed")
    sample.run(make_context(database, lambda folder, recipe: SmallBatches(folder)), job)
