"""URLs for people hold no secret, wherever it stands."""

import pytest

from hsstar.domain.urls import without_secrets
from hsstar.settings import without_settings

SHOWN = {
    "postgresql://me:geheim@db/x": "postgresql://me:***@db/x",
    "postgresql://me:ge:h@e/im@db:5/x": "postgresql://me:***@db:5/x",
    "postgresql://me@db/x?password=geheim&sslmode=require": "postgresql://me@db/x?password=***&sslmode=require",
    "postgresql://me@db/x?sslkey=/k.pem&sslpassword=geheim": "postgresql://me@db/x?sslkey=/k.pem&sslpassword=***",
    "postgresql://me@db/x?passfile=/home/me/.pgpass": "postgresql://me@db/x?passfile=/home/me/.pgpass",
    "postgresql://hsstar@/hsstar?host=%2Ftmp&port=5432": "postgresql://hsstar@/hsstar?host=%2Ftmp&port=5432",
    "redis+socket://:geheim@/tmp/b.sock": "redis+socket://:***@/tmp/b.sock",
    "rediss://:geheim@h:1/0?ssl_ca_certs=/a": "rediss://:***@h:1/0?ssl_ca_certs=/a",
    "redis://h:1/0?Password=geheim": "redis://h:1/0?Password=***",
    "amqp://a:geheim@h1;amqp://b:geheim@h2": "amqp://a:***@h1;amqp://b:***@h2",
    "redis://h:1/0": "redis://h:1/0",
}


@pytest.mark.parametrize("url", SHOWN)
def test_a_url_is_shown_without_its_secrets(url: str) -> None:
    assert without_secrets(url) == SHOWN[url]


def test_a_process_that_needs_no_settings_gets_none() -> None:
    environment = {"HSSTAR_DATABASE_URL": "x", "HSSTAR_OPENAI_API_KEY": "y", "PATH": "/bin", "HF_HOME": "/h"}
    assert without_settings(environment) == {"PATH": "/bin", "HF_HOME": "/h"}
