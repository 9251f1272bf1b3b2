"""What the jobs of a worker process get done, for its heartbeats."""

import threading
import time
from collections.abc import Callable


class Progress:
    """When each job last got further, and how many tokens were drawn; for the threads of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokens = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._moved: dict[int, float] = {}

    def moved(self, job_id: int, tokens: int = 0) -> None:
        """Record that a job has begun, or got further by a batch, a step or a sample."""
        with self._lock:
            self._moved[job_id] = self._clock()
            self.tokens += tokens

    def ended(self, job_id: int) -> None:
        """Forget a job."""
        with self._lock:
            self._moved.pop(job_id, None)

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
