import subprocess
import sys


def test_networks_require_only_torch() -> None:
    code = "import sys, training.networks; print([m for m in ('lightning', 'torchmetrics') if m in sys.modules])"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_the_cli_imports_torch_only_when_a_command_runs() -> None:
    code = "import sys, training.cli; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"
