from hsstar.api.client import Client as Client
from hsstar.api.client import connect as connect
from hsstar.api.evaluation import EvaluationHandle as EvaluationHandle
from hsstar.api.run import RunHandle as RunHandle
from hsstar.api.selection import Rows as Rows
from hsstar.api.selection import Selection as Selection
from hsstar.api.training import train as train
from hsstar.api.verification import explain as explain
from hsstar.api.verification import verify as verify
from hsstar.domain.errors import BadInputError as BadInputError
from hsstar.domain.errors import ConflictError as ConflictError
from hsstar.domain.errors import DatabaseError as DatabaseError
from hsstar.domain.errors import HeldError as HeldError
from hsstar.domain.errors import HsstarError as HsstarError
from hsstar.domain.errors import MissingDependencyError as MissingDependencyError
from hsstar.domain.errors import NotFoundError as NotFoundError

__all__: list[str]
__version__: str
