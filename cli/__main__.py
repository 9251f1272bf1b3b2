"""`python -m hsstar.cli` is `hsstar`."""

from hsstar.cli.main import main

main()
