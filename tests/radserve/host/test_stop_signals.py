"""Tests of radserve.host.stop_signals, in processes of their own."""

import signal
import subprocess
import sys

import pytest

PHASES = {
    "at once": "stop_signals.exit_at_once(); say(); time.sleep(30)",
    "where exceptions are ignored": """
class Import:
    def __del__(self):
        say()
        time.sleep(5)
stop_signals.exit_at_once()
item = Import()
del item
time.sleep(1)
sys.exit(1)""",
    "in the loop": """
async def main():
    stop = stop_signals.stop_event()
    say()
    await stop.wait()
asyncio.run(main())""",
    "twice": """
async def main():
    stop = stop_signals.stop_event()
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    say()
    await asyncio.sleep(1)
asyncio.run(main())""",
    "after the loop": """
async def main():
    stop_signals.stop_event()
asyncio.run(main())
say()
time.sleep(1)""",
    "at the end": "stop_signals.ignore(); say(); time.sleep(1)",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_program_with_code_0(phase: str, number: signal.Signals) -> None:
    head = "import asyncio, os, signal, sys, time\nfrom radserve.host import stop_signals\n"
    code = head + "def say():\n    print('ready', flush=True)\n" + PHASES[phase]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
