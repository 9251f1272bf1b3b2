"""The one exception tree. A message says what was wrong, where, and what to do, in one line."""


class HsstarError(Exception):
    """Anything that hsstar refuses or cannot do; the CLI shows its text as one line."""


class BadInputError(HsstarError):
    """A file, row or argument of the user is not what it has to be."""


class RecipeError(BadInputError):
    """A recipe has an unknown key, an illegal value or a contradiction."""


class CheckpointError(BadInputError):
    """A model checkpoint is missing, incomplete or of the wrong kind."""


class DatabaseError(HsstarError):
    """The database cannot be reached, refuses us, or has no room."""


class SchemaError(DatabaseError):
    """The database schema is older or newer than this code."""


class BrokerError(HsstarError):
    """The broker cannot be reached or refuses us; the work waits, and nothing is lost."""


class NotFoundError(HsstarError):
    """A named run, model, dataset or job does not exist."""


class ConflictError(HsstarError):
    """The request contradicts what is already there or already under way."""


class DrainedError(ConflictError):
    """A worker of this name was asked to stop a moment ago, so another one does not begin in its place."""


class IllegalTransitionError(HsstarError):
    """A job or an iteration cannot go from its state to the requested one."""


class LocalStackError(HsstarError):
    """The embedded stack cannot start, stop or be found."""


class EngineError(HsstarError):
    """An engine could not do its work for a reason that another attempt may not have."""


class EngineMemoryError(EngineError):
    """An engine has not enough memory for this much at once; it stays usable."""


class EngineDeadError(EngineError):
    """An engine cannot be used any more and has to be rebuilt; the items at hand need not be the cause."""


class MissingDependencyError(EngineError):
    """An optional package that the chosen engine needs is not installed."""
