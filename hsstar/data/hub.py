"""The client of the Hugging Face hub: data sets, benchmarks and checkpoints by name, locally cached.

An import of this module does not import the hub's own client.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from hsstar.data.lines import data_suffix
from hsstar.data.rows import SUFFIXES
from hsstar.domain.errors import BadInputError, HsstarError, MissingDependencyError

PREFIX = "hub:"
_STREAMED = re.compile(r"hub:(?P<repository>[^/:@]+/[^/:@]+)(?::(?P<config>[^@]+))?(?:@(?P<split>.+))?")
_USUAL_SPLIT = "train"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MODEL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
_TIMEOUT_SECONDS = 10.0
_MOST_NAMED = 8


class HubError(BadInputError):
    """The hub refuses a request; the text is the reason only."""


def local_file(name: Path | str) -> Path:
    """Return a local path unchanged; for `hub:OWNER/NAME[/FILE]` return the downloaded file.

    A name with a configuration or split stays as it is: `stream_rows` reads it.

    Raises:
        BadInputError: the hub cannot be reached, lacks the data set or file, or the choice is open.
        MissingDependencyError: a hub name without huggingface_hub.
    """
    text = str(name)
    if not text.startswith(PREFIX) or is_streamed(text):
        return Path(name)
    owner, _, rest = text.removeprefix(PREFIX).partition("/")
    dataset, _, file = rest.partition("/")
    if not owner or not dataset:
        raise BadInputError(f"{text}: expected hub:OWNER/NAME, hub:OWNER/NAME/FILE or :CONFIG@SPLIT")
    repository = f"{owner}/{dataset}"
    try:
        return download_file(repository, file or only_file(text, list_data_files(repository)))
    except HubError as error:
        raise _not_had(text, error) from error


def is_streamed(name: str) -> bool:
    """Tell whether a name is `hub:OWNER/NAME` with a `:CONFIG` or `@SPLIT`, whose rows `datasets` streams."""
    match = _STREAMED.fullmatch(name)
    return match is not None and bool(match["config"] or match["split"])


def stream_rows(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the rows of a data set's configuration and split (`train` if none is named), counted from 1.

    Nothing is kept on disk. Errors as in `local_file`.
    """
    match = _STREAMED.fullmatch(name)
    if match is None:
        raise BadInputError(f"{name}: expected hub:OWNER/NAME:CONFIG@SPLIT")
    try:
        with _one_line_errors(name):
            yield from enumerate(_streamed(match["repository"], match["config"], match["split"]), start=1)
    except HubError as error:
        raise _not_had(name, error) from error


def _streamed(repository: str, config: str | None, split: str | None) -> Iterable[dict[str, Any]]:
    from datasets import load_dataset

    if Path(repository).is_dir():
        raise HubError(f"the folder {repository} here would be read instead")
    try:
        rows: Iterable[dict[str, Any]] = load_dataset(
            repository, config, split=split or _USUAL_SPLIT, streaming=True
        )
    except ValueError as error:  # an unknown configuration or split; its lines name those that exist
        raise HubError(" ".join(str(error).split())) from error
    return rows


def only_file(name: str, files: list[str]) -> str:
    """Return the only data file of a data set; raise BadInputError if it has none or several."""
    if len(files) == 1:
        return files[0]
    if not files:
        raise BadInputError(f"{name} holds no data file ({', '.join(SUFFIXES)})")
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    first = ", ".join(files[:_MOST_NAMED])
    raise BadInputError(
        f"{name} holds {len(files)} data files; name one as {name}/FILE: {first}{more}; or give {name}@SPLIT"
    )


def list_data_files(dataset: str) -> list[str]:
    """Return the names of the files in a data set that hold rows.

    Raise HubError if the data set does not exist or the hub cannot be reached, MissingDependencyError if
    huggingface_hub is not installed.
    """
    with _one_line_errors(dataset):
        from huggingface_hub import HfApi

        siblings = HfApi().dataset_info(dataset, timeout=_TIMEOUT_SECONDS).siblings or ()
        names = [entry.rfilename for entry in siblings]
    return [name for name in names if data_suffix(PurePosixPath(name)) in SUFFIXES]


def download_file(dataset: str, file: str) -> Path:
    """Return the local copy of a data set's file; errors as in `list_data_files`."""
    with _one_line_errors(dataset):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(dataset, file, repo_type="dataset", etag_timeout=_TIMEOUT_SECONDS))


def _not_had(name: str, error: HubError) -> BadInputError:
    return BadInputError(
        f"{name} cannot be had from the Hugging Face hub ({error}); "
        "download the file elsewhere and give its path"
    )


def is_model_name(name: str) -> bool:
    """Tell whether a name means a checkpoint of the hub: it has the form, and is no local folder."""
    return _MODEL_NAME.fullmatch(name) is not None and not Path(name).expanduser().is_dir()


def cached_model(name: str) -> Path | None:
    """Return the folder of a checkpoint in the local cache, without asking the hub."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except (ImportError, OSError, ValueError):
        return None


def download_model(name: str) -> Path:
    """Return the complete local copy of a checkpoint; errors as in `list_data_files`."""
    with _one_line_errors(name):
        from huggingface_hub import snapshot_download

        for files in (_MODEL_FILES, [*_MODEL_FILES, "*.bin"]):
            folder = Path(snapshot_download(name, allow_patterns=files, etag_timeout=_TIMEOUT_SECONDS))
            if any(folder.glob("*.safetensors")):
                break
        return folder


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    try:
        from huggingface_hub.utils.logging import set_verbosity_error

        set_verbosity_error()  # type: ignore[no-untyped-call]  # hides its own lines about failed attempts
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is a name on the Hugging Face hub; pip install 'hsstar[train]' to use it"
        ) from error
    except HsstarError:
        raise
    except Exception as error:  # the hub client raises errors of several libraries
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HubError(reason.strip()) from error


def upload_name(name: str) -> str:
    """Return OWNER/NAME of `hub:OWNER/NAME`; raise BadInputError for any other text."""
    repository = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or _MODEL_NAME.fullmatch(repository) is None:
        raise BadInputError(f"--to {name}: expected hub:OWNER/NAME")
    return repository


def existing_files(dataset: str) -> list[str]:
    """Return the data files of a data set on the hub, none if it does not exist; errors as in `upload`."""
    with _naming_upload(dataset):
        from huggingface_hub import HfApi

        exists = HfApi().repo_exists(dataset, repo_type="dataset")
        return list_data_files(dataset) if exists else []


def upload(dataset: str, file: Path, card: str, *, public: bool) -> str:
    """Put a file and the README of a data set on the hub in one commit; return the address of the data set.

    Raise BadInputError if the hub cannot be reached or refuses, MissingDependencyError without
    huggingface_hub.
    """
    with _naming_upload(dataset):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi()
        place = api.create_repo(dataset, repo_type="dataset", private=not public, exist_ok=True)
        api.create_commit(
            dataset,
            [CommitOperationAdd(file.name, file), CommitOperationAdd("README.md", card.encode())],
            commit_message=f"{file.name}, written by hsstar",
            repo_type="dataset",
        )
        return str(place)


@contextmanager
def _naming_upload(dataset: str) -> Iterator[None]:
    try:
        with _one_line_errors(dataset):
            yield
    except HubError as error:
        raise BadInputError(
            f"hub:{dataset} cannot be written ({error}); log in by `hf auth login`, or use --output"
        ) from error
