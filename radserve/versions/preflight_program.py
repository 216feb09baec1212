"""Program of the preflight check: starts the handler of an unpacked archive, the argument, as TorchServe's worker does.

PYTHONPATH names the archive's folder, so that its own code is imported.
"""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace


def main(folder: str) -> None:
    """Create the handler and initialize it."""
    manifest = json.loads((Path(folder) / "MAR-INF" / "MANIFEST.json").read_bytes())
    stem = manifest["model"]["handler"].removesuffix(".py")
    kinds = vars(importlib.import_module(stem)).values()
    (service,) = [kind for kind in kinds if isinstance(kind, type) and kind.__module__ == stem]
    context = SimpleNamespace(system_properties={"model_dir": folder, "gpu_id": None, "batch_size": 1}, metrics=None)
    service().initialize(context)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this program, whose modules belong to the server
    main(*sys.argv[1:])
