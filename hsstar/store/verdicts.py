"""Verdicts that algebra has found for pairs of answer and reference, kept across runs."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from hsstar.domain.verdict import LASTING_CAUSES, Cause


def load_known_verdicts(connection: Connection, version: str, keys: Sequence[bytes]) -> dict[bytes, Cause]:
    """What this version of the verifier has found before, by the key of the pair."""
    if not keys:
        return {}
    rows = connection.execute(
        text("""
            SELECT pair_key, cause FROM known_verdicts
            WHERE verifier_version = :version AND pair_key = ANY (CAST(:keys AS bytea[]))
        """),
        {"version": version, "keys": list(keys)},
    )
    return {row.pair_key: Cause(row.cause) for row in rows}


def remember_verdicts(connection: Connection, version: str, found: Mapping[bytes, Cause]) -> None:
    """Keeps what this version of the verifier has found, lasting causes only; what is there stays.

    At most once in a transaction: the order of the keys saves concurrent ones from deadlocks.
    """
    lasting = sorted((key, cause) for key, cause in found.items() if cause in LASTING_CAUSES)
    connection.execute(
        text("""
            INSERT INTO known_verdicts (verifier_version, pair_key, cause)
            SELECT :version, pair_key, cause
            FROM unnest(CAST(:keys AS bytea[]), CAST(:causes AS text[])) AS given (pair_key, cause)
            ON CONFLICT DO NOTHING
        """),
        {
            "version": version,
            "keys": [key for key, _ in lasting],
            "causes": [cause for _, cause in lasting],
        },
    )
