from hsstar.api.client import Client as Client
from hsstar.api.client import connect as connect
from hsstar.api.client import upgrade as upgrade
from hsstar.api.data import split_solutions as split_solutions
from hsstar.api.data import write_demo_problems as write_demo_problems
from hsstar.api.evaluation import EvaluationHandle as EvaluationHandle
from hsstar.api.recipes import check_recipe as check_recipe
from hsstar.api.recipes import prompt as prompt
from hsstar.api.recipes import prompt_templates as prompt_templates
from hsstar.api.run import RunHandle as RunHandle
from hsstar.api.selection import Rows as Rows
from hsstar.api.selection import Selection as Selection
from hsstar.api.training import train as train
from hsstar.api.verification import explain as explain
from hsstar.api.verification import verify as verify
from hsstar.doctor.installation import examine_installation as examine_installation
from hsstar.domain.errors import BadInputError as BadInputError
from hsstar.domain.errors import ConflictError as ConflictError
from hsstar.domain.errors import DatabaseError as DatabaseError
from hsstar.domain.errors import HeldError as HeldError
from hsstar.domain.errors import HsstarError as HsstarError
from hsstar.domain.errors import MissingDependencyError as MissingDependencyError
from hsstar.domain.errors import NotFoundError as NotFoundError
from hsstar.recipe.schema import recipe_schema as recipe_schema
from hsstar.store.read.problems import ProblemFilter as ProblemFilter
from hsstar.store.read.samples import SampleFilter as SampleFilter

__all__: list[str]
__version__: str
