"""The sampler of a process: jobs of one policy share it; between them it changes the policy."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hsstar.checkpoints.files import differ_in_weights_only
from hsstar.domain.errors import EngineDeadError
from hsstar.engines.sampling.contract import Sampler, SupportsSleep
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe
from hsstar.store.models import Model, checkpoint_of

log = logging.getLogger("hsstar.sampler")

_NOT_CLOSED = "the old engine does not close"


@dataclass(slots=True)
class _Loaded:
    sampler: Sampler
    section: PolicySection
    policy: Model
    folder: Path
    dead: bool = False
    asleep: bool = False

    def serves(self, policy: Model, section: PolicySection) -> bool:
        return not (self.dead or self.asleep) and (policy.fingerprint, policy.location, section) == (
            self.policy.fingerprint,
            self.policy.location,
            self.section,
        )


class SharedSampler:
    """At most one sampler, held by any number of threads that want the same policy.

    A thread that wants another policy waits until all holders have left, and later threads wait behind it.
    So threads enter in the order of arrival.
    """

    def __init__(self, build: Callable[[str, Recipe], Sampler]) -> None:
        self._build = build
        self._changed = threading.Condition()
        self._arrivals: deque[object] = deque()
        self._holders = 0
        self._loaded: _Loaded | None = None

    @contextmanager
    def held(self, policy: Model, recipe: Recipe) -> Iterator[Sampler]:
        """Hold the sampler of this policy for a block."""
        loaded = self._take(policy, recipe)
        try:
            yield loaded.sampler
        except EngineDeadError:
            with self._changed:
                loaded.dead = True
            raise
        finally:
            with self._changed:
                self._holders -= 1
                self._changed.notify_all()

    def release(self) -> None:
        """Free the memory of a sampler that nobody holds: put it to sleep, else close it."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None and _put_to_sleep(loaded):
            self._loaded = loaded
        elif loaded is not None:
            _succeeds(loaded.sampler.close, _NOT_CLOSED)

    def close(self) -> None:
        """Close the sampler, if there is one, even while threads hold it."""
        if self._loaded is not None:
            self._loaded.sampler.close()
        self._loaded = None

    def _take(self, policy: Model, recipe: Recipe) -> _Loaded:
        ticket = object()

        def free() -> bool:
            return not self._holders or self._serves(policy, recipe)

        with self._changed:
            self._arrivals.append(ticket)
            self._changed.wait_for(lambda: self._arrivals[0] is ticket and free())
            serving = self._loaded if self._serves(policy, recipe) else None
        try:  # without the lock: other threads wait behind the ticket
            loaded = serving or self._load(policy, recipe)
            with self._changed:
                self._holders += 1
            return loaded
        finally:
            with self._changed:
                self._arrivals.popleft()
                self._changed.notify_all()

    def _serves(self, policy: Model, recipe: Recipe) -> bool:
        return self._loaded is not None and self._loaded.serves(policy, recipe.policy)

    def _load(self, policy: Model, recipe: Recipe) -> _Loaded:
        folder = checkpoint_of(policy)
        if self._loaded is not None and _woken(self._loaded) and self._serves(policy, recipe):
            return self._loaded
        before, self._loaded = self._loaded, None
        if before is not None and _reloaded(before, folder, recipe.policy):
            sampler = before.sampler
        else:
            if before is not None:
                _succeeds(before.sampler.close, _NOT_CLOSED)
            sampler = self._build(str(folder), recipe)
        self._loaded = _Loaded(sampler, recipe.policy, policy, folder)
        return self._loaded


def _put_to_sleep(loaded: _Loaded) -> bool:
    if loaded.asleep:
        return True
    if loaded.dead or not isinstance(loaded.sampler, SupportsSleep):
        return False
    loaded.asleep = _succeeds(loaded.sampler.sleep, "the engine cannot sleep and is closed")
    return loaded.asleep


def _woken(loaded: _Loaded) -> bool:
    if loaded.asleep and isinstance(loaded.sampler, SupportsSleep):
        loaded.dead = not _succeeds(loaded.sampler.wake, "the engine does not wake and is replaced")
        loaded.asleep = False
    return not loaded.dead


def _reloaded(loaded: _Loaded, folder: Path, section: PolicySection) -> bool:
    if loaded.dead or loaded.section != section or not differ_in_weights_only(loaded.folder, folder):
        return False
    return _succeeds(
        lambda: loaded.sampler.reload(folder), f"the engine cannot load {folder} and is replaced"
    )


def _succeeds(action: Callable[[], None], consequence: str) -> bool:
    """Run an action of an engine, which may raise anything; log its failure with the consequence."""
    try:
        action()
    except Exception as error:
        log.warning("%s: %s", consequence, error, exc_info=error)
        return False
    return True
