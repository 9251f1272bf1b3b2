"""Text from models and files, made fit for storage and comparison."""

import codecs
import hashlib

_REPLACEMENT = "\ufffd"


def _replace_surrogates(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _REPLACEMENT.encode() * (error.end - error.start), error.end


codecs.register_error("hsstar.replace_surrogates", _replace_surrogates)


def storable(text: str) -> str:
    """Return the text as Postgres can store it: NUL and lone surrogates become U+FFFD."""
    return text.replace("\x00", _REPLACEMENT).encode("utf-8", "hsstar.replace_surrogates").decode("utf-8")


def content_key(text: str) -> str:
    """Return 32 hex digits that identify a text; runs of white space count as one space."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def kind_of(value: object) -> str:
    """Return the kind of a JSON value in words."""
    kinds = {type(None): "null", bool: "a truth value", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
