"""Data files by their name on the Hugging Face hub: `hub:OWNER/NAME` or `hub:OWNER/NAME/FILE`."""

from pathlib import Path, PurePosixPath

from hsstar.domain.errors import BadInputError, MissingDependencyError

PREFIX = "hub:"
_SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".parquet"})
_TIMEOUT_SECONDS = 10.0
_SHOWN = 8


def local_file(name: Path | str) -> Path:
    """The local file of a path as it is, or of a name on the hub, downloaded where it is not cached.

    Raises:
        BadInputError: there is no such dataset or file, it leaves the choice among several, or the hub
            cannot be reached.
        MissingDependencyError: a hub name without huggingface_hub.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        return Path(name)
    owner, _, rest = text.removeprefix(PREFIX).partition("/")
    dataset, _, file = rest.partition("/")
    if not owner or not dataset:
        raise BadInputError(f"{text}: expected hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    return _download(text, f"{owner}/{dataset}", file)


def _download(text: str, dataset: str, file: str) -> Path:
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.utils.logging import set_verbosity_error
    except ImportError as error:
        raise MissingDependencyError(f"{text} needs huggingface_hub: pip install 'hsstar[train]'") from error
    set_verbosity_error()  # type: ignore[no-untyped-call]  # silences its own lines about failed tries
    try:
        if not file:
            found = HfApi().dataset_info(dataset, timeout=_TIMEOUT_SECONDS)
            file = _only_file(text, [entry.rfilename for entry in found.siblings or ()])
        return Path(hf_hub_download(dataset, file, repo_type="dataset", etag_timeout=_TIMEOUT_SECONDS))
    except BadInputError:
        raise
    except Exception as error:  # the hub client raises errors of several libraries
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadInputError(
            f"{text} cannot be had from the Hugging Face hub ({reason.strip()}); "
            "download the file elsewhere and give its path"
        ) from error


def _only_file(text: str, listed: list[str]) -> str:
    files = [name for name in listed if PurePosixPath(name).suffix in _SUFFIXES]
    if len(files) == 1:
        return files[0]
    if not files:
        raise BadInputError(f"{text} holds no data file ({', '.join(sorted(_SUFFIXES))})")
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    raise BadInputError(
        f"{text} holds {len(files)} data files; name one as {text}/FILE: {', '.join(files[:_SHOWN])}{more}"
    )
