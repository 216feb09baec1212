"""Run the command line: `python -m radserve`."""

from radserve.cli import main

main()
