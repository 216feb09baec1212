"""Run the command line: `python -m radserve`."""

from radserve.cli.main import main

main()
