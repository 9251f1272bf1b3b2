"""How long the jobs of a worker process get no further."""

from hsstar.stages.progress import Progress


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now


def test_a_job_that_waits_behind_another_is_not_still_while_that_one_moves() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.moved(1)
    progress.moved(2)
    clock.now = 500
    progress.moved(1, tokens=100)
    clock.now = 900
    assert (progress.still_seconds(1), progress.still_seconds(2)) == (400, 400)


def test_a_job_that_has_moved_counts_alone() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.moved(1)
    progress.moved(2)
    clock.now = 100
    progress.moved(2, tokens=5)
    clock.now = 500
    progress.moved(1, tokens=100)
    assert (progress.still_seconds(1), progress.still_seconds(2)) == (0, 400)


def test_jobs_that_began_later_excuse_nobody() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.moved(1)
    for job_id in range(2, 9):
        progress.moved(job_id)
        clock.now += 100
        progress.moved(job_id, tokens=5)
        progress.ended(job_id)
    assert progress.still_seconds(1) == 700
    assert progress.still_seconds(2) == 0
