"""A process that does one sampling job by the real stage and engine: `DATABASE_URL JOB_ID`."""

import sys

from hsstar.stages import sample
from hsstar.store.database import Database
from tests.store.drawing import SmallBatches, make_context
from tests.store.factory import claim

if __name__ == "__main__":
    database = Database(sys.argv[1])
    with database.begin() as connection:
        job = claim(connection, int(sys.argv[2]), "killed")
    sample.run(make_context(database, lambda folder, recipe: SmallBatches(folder)), job)
