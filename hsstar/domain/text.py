"""Text from models and files, made fit for storage, comparison and display."""

import codecs
import hashlib
import unicodedata

_REPLACEMENT = "\ufffd"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Categories of characters that a terminal obeys or does not show."""
_JOINERS = "\u200c\u200d"  # words and emoji need them


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


def visible(text: str) -> str:
    r"""Return the text with control, format and lone surrogate characters escaped, as in `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    if character < "\x80":
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()


def duration(seconds: float | None) -> str:
    """Return seconds as a person reads them."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
