"""The lines of a text file in UTF-8: what compressed it, and its encoding, show in its first bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any, cast

from hsstar.domain.errors import BadInputError, MissingDependencyError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes behind the suffix of the format, as in `rows.jsonl.gz`."""

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ARCHIVE = b"PK\x03\x04"
_POINTER = b"version https://git-lfs"
_LONGEST_MARK = 6


def data_suffix(path: PurePath) -> str:
    """Return the suffix that names the format, in lower case: `.jsonl` of `rows.JSONL.gz`."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


@contextmanager
def open_lines(source: Path | IO[bytes]) -> Iterator[Iterator[bytes]]:
    """Stream the lines of a file or stream as UTF-8 with their line ends, decompressed, without a byte mark.

    Raise BadInputError for an archive, cut off or broken data, and text that is not UTF-16 though marked so;
    MissingDependencyError for `.zst` without pyarrow. That the bytes are UTF-8 is left to the caller.
    """
    place = source if isinstance(source, Path) else source.name
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                yield _lines(place, stream)
        else:
            yield _lines(place, source)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadInputError(f"{place} is cut off or broken: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{place} begins as UTF-16 and is something else ({error.reason})") from None


def _lines(place: Path | str, raw: IO[bytes]) -> Iterator[bytes]:
    stream = _peekable(raw)
    start = stream.peek(_LONGEST_MARK)
    if stream.peek(len(_POINTER)).startswith(_POINTER):
        raise BadInputError(f"{place} is a pointer of Git LFS, not the file itself; get it: git lfs pull")
    if start.startswith(_ARCHIVE):
        raise BadInputError(f"{place} is a ZIP archive or an Excel file; unpack it, or save it as CSV")
    for mark, decompress in _DECOMPRESSORS.items():
        if start.startswith(mark):
            stream = _peekable(decompress(stream))
            start = stream.peek(_LONGEST_MARK)
            break
    if start.startswith(_UTF16_MARKS):
        text = io.TextIOWrapper(stream, encoding="utf-16", newline="\n")
        return (line.encode("utf-8", "surrogatepass") for line in text)
    if start.startswith(_UTF8_MARK):
        stream.read(len(_UTF8_MARK))
    return iter(stream)


def _peekable(stream: IO[bytes]) -> io.BufferedReader:
    if isinstance(stream, io.BufferedReader):
        return stream
    return io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16)


def _zstandard(stream: IO[bytes]) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError:
        raise MissingDependencyError(
            'files in Zstandard need pyarrow: install it with pip install "hsstar[parquet]"'
        ) from None
    decompressed: Any = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
    return cast(IO[bytes], decompressed)


_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: cast(IO[bytes], gzip.GzipFile(fileobj=stream)),
    b"BZh": lambda stream: cast(IO[bytes], bz2.BZ2File(stream)),
    b"\xfd7zXZ\x00": lambda stream: cast(IO[bytes], lzma.LZMAFile(stream)),  # noqa: SIM115 - for the caller
    b"\x28\xb5\x2f\xfd": _zstandard,
}
