"""How to reach the broker: TLS is always checked, and every call has a time limit."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import kombu

from hsstar.domain.errors import BadInputError, BrokerError
from hsstar.domain.urls import without_secrets

CONNECT_SECONDS = 3
_SOCKET_SECONDS = 10  # of silence within an answer; the wait for a message is shorter
_TLS_SCHEMES = ("rediss", "amqps")
_CHECKS = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}
_FILES = ("ca_certs", "certfile", "keyfile")


@dataclass(frozen=True)
class BrokerAddress:
    """A broker, and how Celery and kombu connect to it; the TLS settings are not in `url` but in `tls`."""

    url: str = field(repr=False)
    tls: Mapping[str, Any] | None
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str, authority: Path | None = None) -> "BrokerAddress":
        """Read a URL that kombu knows; its query may hold TLS settings (`ssl_ca_certs`, `ssl_cert_reqs`, …).

        `authority` is a file of CA certificates; None: the system's. Raise BadInputError if a TLS setting is
        unknown or names no file, or the URL has no TLS.
        """
        parts = urlsplit(url)
        if parts.scheme in _TLS_SCHEMES:
            query = parse_qs(parts.query)
            settings = {key[4:]: query.pop(key)[-1] for key in list(query) if key.startswith("ssl_")}
            plain = urlunsplit(parts._replace(query=urlencode(query, doseq=True)))
            tls = _tls(parts.scheme, parts.hostname, settings, authority)
            return cls(plain, tls, _transport_options(parts.scheme))
        if "ssl_" in parts.query or authority is not None:
            raise BadInputError(
                f"TLS settings of the broker need rediss:// or amqps:// in its URL, not {parts.scheme}://"
            )
        return cls(url, None, _transport_options(parts.scheme))

    @property
    def shown(self) -> str:
        """Return the URL without its secrets."""
        return without_secrets(self.url)

    def check(self) -> str:
        """Connect and log in within seconds; return what answered. Raise BrokerError without a password."""
        quick = {key: CONNECT_SECONDS if "timeout" in key else value for key, value in self.options.items()}
        try:
            with kombu.Connection(
                self.url,
                ssl=dict(self.tls) if self.tls else False,
                connect_timeout=CONNECT_SECONDS,
                transport_options=quick,
            ) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
                connection.default_channel.close()
                return f"{connection.transport.driver_type} answers at {self.shown}"
        except Exception as error:  # each transport has its own exceptions
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BrokerError(f"the broker {self.shown} does not let us in: {reason}") from error


def _tls(scheme: str, host: str | None, given: Mapping[str, str], authority: Path | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
    if authority is not None:
        settings["ca_certs"] = str(authority)
    for key, value in given.items():
        if key == "cert_reqs" and value.lower().removeprefix("cert_") in _CHECKS:
            settings[key] = _CHECKS[value.lower().removeprefix("cert_")]
        elif key in _FILES and Path(value).is_file():
            settings[key] = value
        else:
            raise BadInputError(
                f"ssl_{key}={value!r} of the broker's URL is not legal: ssl_cert_reqs is required or none; "
                f"{', '.join(f'ssl_{file}' for file in _FILES)} are existing files"
            )
    checked = settings["cert_reqs"] == ssl.CERT_REQUIRED
    if scheme == "amqps":
        return settings | ({"server_hostname": host} if checked else {})
    return {f"ssl_{key}": value for key, value in settings.items()} | {"ssl_check_hostname": checked}


def _transport_options(scheme: str) -> dict[str, Any]:
    if scheme.startswith("amqp"):
        return {"read_timeout": _SOCKET_SECONDS, "write_timeout": _SOCKET_SECONDS}
    if scheme.startswith("redis"):
        return {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": _SOCKET_SECONDS,
            "socket_keepalive": True,
        }
    return {}
