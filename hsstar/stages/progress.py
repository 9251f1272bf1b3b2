"""What the jobs of a worker process get done, for its heartbeats."""

import threading
import time
from collections.abc import Callable


class Progress:
    """When each job last got further, and how many tokens were drawn; for the threads of one process.

    The jobs of a process share an engine, which serves them in the order in which they began. So a job that
    has only begun gets further with each that began before it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokens = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._moved: dict[int, float] = {}  # in the order in which they began
        self._begun: set[int] = set()  # those that have got no further since

    def moved(self, job_id: int, tokens: int = 0) -> None:
        """Record that a job has begun, or got further by a batch, a step or a sample."""
        with self._lock:
            now = self._clock()
            if job_id in self._moved:
                self._begun.discard(job_id)
                order = list(self._moved)
                for waiting in self._begun.intersection(order[order.index(job_id) :]):
                    self._moved[waiting] = now
            else:
                self._begun.add(job_id)
            self._moved[job_id] = now
            self.tokens += tokens

    def ended(self, job_id: int) -> None:
        """Forget a job."""
        with self._lock:
            self._moved.pop(job_id, None)
            self._begun.discard(job_id)

    def excuse(self, seconds: float) -> None:
        """Do not count so many seconds: this process could do nothing."""
        with self._lock:
            for job_id in self._moved:
                self._moved[job_id] += seconds

    def still_seconds(self, job_id: int) -> float:
        """Return for how long a job has got no further; 0 for one that has ended."""
        with self._lock:
            now = self._clock()
            return now - self._moved.get(job_id, now)
