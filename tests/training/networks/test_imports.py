from __future__ import annotations

import subprocess
import sys


def test_networks_need_torch_only() -> None:
    code = "import sys, training.networks; print([m for m in ('lightning', 'torchmetrics') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_imports_torch_only_when_it_runs() -> None:
    code = "import sys, training.cli; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
