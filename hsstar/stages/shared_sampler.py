"""The sampler of a process: jobs of one policy share it, and it passes to another policy between them."""

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


@dataclass(slots=True)
class _Loaded:
    """A sampler and the policy that it draws from."""

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
    """At most one sampler, which any number of threads hold together as long as they want one policy.

    Who wants another policy waits until all have let go; who comes later waits behind. So the order is
    that of arrival, and no policy waits for ever.
    """

    def __init__(self, build: Callable[[str, Recipe], Sampler]) -> None:
        self._build = build
        self._changed = threading.Condition()
        self._arrivals: deque[object] = deque()
        self._holders = 0
        self._loaded: _Loaded | None = None

    @contextmanager
    def held(self, policy: Model, recipe: Recipe) -> Iterator[Sampler]:
        """The sampler of this policy, which no other policy takes before the end of the block."""
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
        """Gives the sampler's memory away until it is wanted again; nobody may hold it.

        It sleeps where it can, else it is closed.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is not None and _put_to_sleep(loaded):
            self._loaded = loaded
        elif loaded is not None:
            _close(loaded.sampler)

    def close(self) -> None:
        """Closes the sampler, if there is one, whoever holds it."""
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
        try:  # without the lock: whoever else comes waits behind the ticket
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
        """The policy in the sampler that is there, where only the weights differ, else in a new one."""
        folder = checkpoint_of(policy)
        if self._loaded is not None and _woken(self._loaded) and self._serves(policy, recipe):
            return self._loaded
        before, self._loaded = self._loaded, None
        if before is not None and _reloaded(before, folder, recipe.policy):
            sampler = before.sampler
        else:
            if before is not None:
                _close(before.sampler)
            sampler = self._build(str(folder), recipe)
        self._loaded = _Loaded(sampler, recipe.policy, policy, folder)
        return self._loaded


def _put_to_sleep(loaded: _Loaded) -> bool:
    """Whether a sampler can sleep and does now."""
    if loaded.dead or not isinstance(loaded.sampler, SupportsSleep):
        return False
    try:
        loaded.sampler.sleep()
    except Exception as error:  # whatever an engine raises: closing frees the memory as well
        log.warning("the engine does not sleep and is closed: %s", error)
        return False
    loaded.asleep = True
    return True


def _woken(loaded: _Loaded) -> bool:
    """Whether a sampler is awake now."""
    if loaded.asleep and isinstance(loaded.sampler, SupportsSleep):
        try:
            loaded.sampler.wake()
        except Exception as error:  # whatever an engine raises: a new one takes its place
            log.warning("the engine does not wake and is built anew: %s", error)
            loaded.dead = True
        loaded.asleep = False
    return not loaded.dead


def _reloaded(loaded: _Loaded, folder: Path, section: PolicySection) -> bool:
    """Whether a sampler has taken the weights in this folder."""
    if loaded.dead or loaded.section != section or not differ_in_weights_only(loaded.folder, folder):
        return False
    try:
        loaded.sampler.reload(folder)
    except Exception as error:  # whatever an engine raises: a new one says what is wrong with the folder
        log.warning("the engine cannot take %s in place and is built anew: %s", folder, error)
        return False
    return True


def _close(sampler: Sampler) -> None:
    """Closes a sampler that may be dead, and then may refuse even that."""
    try:
        sampler.close()
    except Exception:
        log.exception("the old engine did not close")
