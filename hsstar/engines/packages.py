"""The packages that a worker imports before its first job, by role."""

from importlib.util import find_spec

from hsstar.domain.errors import MissingDependencyError
from hsstar.domain.lifecycle import JobKind

_PACKAGES = {
    JobKind.SAMPLE: ("torch", "transformers"),
    JobKind.SCORE: ("torch", "transformers"),
    JobKind.TRAIN: ("torch", "transformers", "trl", "accelerate"),
}


def check_role(role: str) -> None:
    """Raise MissingDependencyError if a worker of this role (a kind of job or `all`) lacks a package."""
    kinds = list(JobKind) if role == "all" else [JobKind(role)]
    needed = dict.fromkeys(package for kind in kinds for package in _PACKAGES.get(kind, ()))
    if missing := [package for package in needed if find_spec(package) is None]:
        raise MissingDependencyError(
            f"a worker of the role {role} needs {', '.join(missing)}: pip install 'hsstar[train]'"
        )
