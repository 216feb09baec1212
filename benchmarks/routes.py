"""Options and report of the benchmarks that compare routes to one model."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.server import CHECKOUT
from radserve.host.resources import cores


def options(description: str | None, requests: int) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-lenet", help="a fast model has less noise")
    parser.add_argument("--model-store", type=Path, default=CHECKOUT / "model_store")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=requests, help="requests per route and round")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def report(options: argparse.Namespace, results: Mapping[Any, Any], table: str) -> None:
    """Print the results, and write them if a file is named."""
    document = {"cores": cores(), "load": os.getloadavg()[0], "model": options.model, "ms": results}
    print(table)
    print(f"\n{options.model}, {document['cores']} cores; system load during the measurement: {document['load']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
