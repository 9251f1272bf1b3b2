"""Secrets from the environment, or from files that it names. Standard library only."""

from collections.abc import Mapping
from pathlib import Path

from hsstar.domain.errors import BadInputError


def read_secret(environ: Mapping[str, str], variable: str) -> str | None:
    """Read a secret from its variable, or from the file that `<variable>_FILE` names.

    Raises BadInputError if both are set, or if the file is missing, empty, or open to others than its owner.
    """
    value = environ.get(variable, "").strip() or None
    file = existing_file(environ, f"{variable}_FILE")
    if file is None:
        return value
    if value is not None:
        raise BadInputError(f"{variable} and {variable}_FILE are both set; unset one of them")
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise BadInputError(
            f"{variable}_FILE: {file} is open to others (mode {mode:04o}); run: chmod 600 {file}"
        )
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{variable}_FILE: {file} cannot be read: {error}") from None
    if not secret or "\n" in secret:
        raise BadInputError(f"{variable}_FILE: {file} must hold one line, the secret")
    return secret


def existing_file(environ: Mapping[str, str], variable: str) -> Path | None:
    """Return the file that a variable names, None if it is empty; raise BadInputError if it is missing."""
    value = environ.get(variable, "").strip()
    if not value:
        return None
    file = Path(value).absolute()
    if not file.is_file():
        raise refusal(variable, value, "an existing file")
    return file


def refusal(variable: str, value: str, legal: str) -> BadInputError:
    """Return the error for a variable's value."""
    return BadInputError(f"{variable}={value!r} is not legal: it must be {legal}")
