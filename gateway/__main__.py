"""Runs the gateway: `python -m gateway`."""

from gateway.cli import main

main()
