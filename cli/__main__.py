"""`python -m cli` is `hsstar`."""

from cli.main import main

main()
