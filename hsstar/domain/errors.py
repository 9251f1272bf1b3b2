"""The exceptions of hsstar. A message says in one line what is wrong, where, and what to do."""


class HsstarError(Exception):
    """Any refusal or failure of hsstar; the CLI shows its text as one line."""


class BadInputError(HsstarError):
    """A file, row or argument of the user is wrong."""


class RecipeError(BadInputError):
    """A recipe has an unknown key, an illegal value or a contradiction."""


class CheckpointError(BadInputError):
    """A model checkpoint is missing, incomplete or of the wrong kind."""


class DatabaseError(HsstarError):
    """The database cannot be reached, refuses the login, or has no room."""


class StatementError(DatabaseError):
    """The database is there, and refuses or ends a statement."""


class RefusedRowError(DatabaseError):
    """The database refuses a row for its content; another attempt with the same row does not succeed."""


class SchemaError(DatabaseError):
    """The database schema is older or newer than this code."""


class BrokerError(HsstarError):
    """The broker cannot be reached or refuses the login; work waits, and nothing is lost."""


class NotFoundError(HsstarError):
    """A named run, model, dataset or job does not exist."""


class ConflictError(HsstarError):
    """The request contradicts existing rows or running work."""


class HeldError(ConflictError):
    """A run is held: by a person, by its gate, or after an iteration that trained nothing."""


class DrainedError(ConflictError):
    """A worker of this name was just asked to stop, so no other starts in its place."""


class IllegalTransitionError(HsstarError):
    """A job or an iteration cannot go from its state to the requested one."""


class LocalStackError(HsstarError):
    """The embedded stack cannot start, stop or be found."""


class EngineError(HsstarError):
    """An engine failed; another attempt may succeed."""


class EngineMemoryError(EngineError):
    """An engine lacks memory for this batch; it stays usable."""


class EngineDeadError(EngineError):
    """An engine must be rebuilt; the items of the batch need not be the cause."""


class MissingDependencyError(EngineError):
    """An optional package that the chosen engine needs is not installed."""
