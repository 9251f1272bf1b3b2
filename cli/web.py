"""`hsstar web`: the pages, in a browser."""

import click

from hsstar.cli.environment import open_database
from hsstar.cli.text import say

_NOT_INSTALLED = "hsstar web needs {}: pip install 'hsstar[web]'"


@click.command(epilog="Example:  hsstar web --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8018, show_default=True, help="0 is any.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Another name that browsers call it by; repeatable.",
)
def web(host: str, port: int, names: tuple[str, ...]) -> None:
    """Show runs, workers and queries as pages, which change while runs do. They change nothing themselves.

    It prints the address to open. An address that other machines can reach needs the link that is printed:
    it lets one browser in, and the next link is printed after it.
    """
    from hsstar.domain.errors import MissingDependencyError

    try:
        from hsstar.web.serve import serve
    except ModuleNotFoundError as error:
        raise MissingDependencyError(_NOT_INSTALLED.format(error.name)) from None

    with open_database() as database:
        url = database.url
    serve(url, host, port, names, say)
