"""Measures how fast the page responds to its user while it analyses many films that were dropped at once.

    python -m benchmarks.page --model-store model_store --films 500 --json results.json

Chromium drops synthetic films on the page of a gateway with a TorchServe. Until the last one is analysed, the script
sorts, filters, scrolls, types, and opens and closes details. It measures, in the page:

- input delay: from the time of an input event (Event Timing, `timeStamp`) to its first listener;
- next paint: from the same time to the end of the next frame;
- thread busy: the delay that an input at a random time would have, from the gaps between timers. Unlike the others, it
  does not depend on when the script acts, which waits while the page is busy.

The browser, its driver and the servers share the cores.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from playwright.sync_api import Page, sync_playwright

from benchmarks.gateway import launch_gateway
from benchmarks.server import CHECKOUT, launch
from radserve.host.resources import cores

CHROMIUM = "/usr/bin/chromium-headless-shell"
"""Without the windows of a desktop, which take half of the CPU time of opening a page."""
SAMPLE = CHECKOUT / "archives" / "chest-xray-cnn" / "sample.png"
MODEL = "chest-xray-cnn"
SIZE = (1400, 980)
PAUSE = 80
"""Milliseconds between actions."""
LIMIT = 200.0
"""Milliseconds that the 95th percentile may take."""
PERIOD = 5
"""Milliseconds between the timers that measure how busy the thread is."""

PROBE = """period => {
    const times = { delay: [], paint: [], gap: [] };
    window.times = times;
    const measure = (event) => {
        times.delay.push(performance.now() - event.timeStamp);
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            channel.port1.onmessage = () => times.paint.push(performance.now() - event.timeStamp);
            channel.port2.postMessage(null);
        });
    };
    for (const type of ["pointerdown", "click", "keydown", "wheel"]) {
        addEventListener(type, measure, { capture: true, passive: true });
    }
    let last = performance.now();
    const tick = () => {
        const now = performance.now();
        times.gap.push(now - last);
        last = now;
        setTimeout(tick, period);
    };
    tick();
}"""


def main() -> None:
    """Measure and print; the exit code is 1 if the input delay or the next paint exceeds the limit."""
    options = _options()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        paths = list(films(folder, options.films))
        environment = os.environ | {"RADSERVE_DOMAIN": "off"}  # synthetic films differ from the training images
        arguments = (options.model_store, folder / "log", "--models", MODEL)
        server = stack.enter_context(launch(*arguments, environment=environment))
        url = stack.enter_context(launch_gateway(server.url, server.health_url, f"sqlite:{folder}/history.sqlite3"))
        times, seconds, version, counts = measure(url, paths)
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "chromium": version,
        "films": len(paths),
        "seconds": seconds,
        "rows": counts,
        "ms": summary(times),
    }
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if max(report["ms"][name]["p95"] for name in ("input delay", "next paint")) > LIMIT:
        raise SystemExit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-store", type=Path, default=CHECKOUT / "model_store", help=f"holds {MODEL}")
    parser.add_argument("--films", type=int, default=500)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def films(folder: Path, count: int) -> Iterator[Path]:
    """Write synthetic films of 1.4 megapixels as JPEG: the sample with another brightness, position and noise."""
    random = np.random.default_rng(0)
    base = np.asarray(Pillow.open(SAMPLE).convert("L").resize(SIZE), dtype=np.float32)
    noise = random.normal(0, 4, (2 * SIZE[1], 2 * SIZE[0])).astype(np.float32)
    for number in range(count):
        top, left = random.integers(0, SIZE[1]), random.integers(0, SIZE[0])
        film = np.roll(base, random.integers(-40, 40, 2), (0, 1)) * random.uniform(0.7, 1.1)
        film += noise[top : top + SIZE[1], left : left + SIZE[0]]
        path = folder / f"film-{number + 1:04}.jpg"
        Pillow.fromarray(np.clip(film, 0, 255).astype(np.uint8)).save(path, quality=90)
        yield path


def measure(url: str, paths: Sequence[Path]) -> tuple[dict[str, list[float]], float, str, str]:
    """Drop films on the page and use it until all are analysed.

    Returns
    -------
    times
        Milliseconds: `delay` and `paint` of each input, `gap` between the timers.
    seconds
        From the drop to the last result.
    version, counts
        Of Chromium; the numbers of rows of each kind.
    """
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(60_000)
        page.add_init_script(f"localStorage.setItem('radserve.model', '{json.dumps({'name': MODEL})}')")
        page.goto(url)
        page.wait_for_selector("html[data-ready]")
        page.evaluate(PROBE, PERIOD)
        start = time.monotonic()
        drop(page, paths)
        page.wait_for_selector("#batch:not([hidden])")
        actions = use(page)
        while not page.locator(".batch-state").inner_text().startswith(f"{len(paths)} of {len(paths)} done"):
            next(actions)()
            page.wait_for_timeout(PAUSE)
        seconds = time.monotonic() - start
        counts = ", ".join(page.locator(".batch-chip").all_inner_texts())
        times: dict[str, list[float]] = page.evaluate("window.times")
        version = browser.version
        browser.close()
    return times, seconds, version, counts


def drop(page: Page, paths: Sequence[Path]) -> None:
    """Drop files from outside the browser on the page."""
    session = page.context.new_cdp_session(page)
    data: dict[str, Any] = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for event in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": event, "x": 700, "y": 500, "data": data})


def use(page: Page) -> Iterator[Callable[[], None]]:
    """Yield what a user does, again and again."""
    scroller = page.locator(".batch-scroll")
    chips = page.locator(".batch-chip")

    def sort() -> None:
        page.get_by_role("columnheader", name="Probability").get_by_role("button").click()

    def scroll() -> None:
        scroller.hover()
        page.mouse.wheel(0, 900)

    def search() -> None:
        page.get_by_label("Filter by file or result").press_sequentially("02", delay=PAUSE)
        for _ in range(2):
            page.keyboard.press("Backspace", delay=PAUSE)

    def move() -> None:
        page.locator(".batch-open").first.click()
        page.get_by_role("button", name="Next", exact=True).click()
        page.keyboard.press("Escape")
        for _ in range(5):
            page.keyboard.press("ArrowDown", delay=PAUSE / 2)

    def narrow() -> None:
        chips.last.click()
        chips.first.click()

    while True:
        yield from (sort, scroll, search, scroll, move, narrow)


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Compute the percentiles of each measure in milliseconds."""
    measures = {
        "input delay": np.array(times["delay"]),
        "next paint": np.array(times["paint"]),
        "thread busy": _waits(np.array(times["gap"]) - PERIOD),
    }
    return {
        name: {"n": len(values)} | {f"p{at}": float(np.percentile(values, at)) for at in (50, 95, 99, 100)}
        for name, values in measures.items()
    }


def _waits(busy: np.ndarray) -> np.ndarray:
    """Return the wait until the thread is free at each millisecond of a run; 0 outside the busy intervals."""
    waits = [np.arange(round(length), 0, -1) for length in busy if length >= 1]
    idle = np.zeros(PERIOD * len(busy))
    return np.concatenate([*waits, idle])


def table(report: dict[str, Any]) -> str:
    """Render the results as Markdown."""
    lines = ["| measure | inputs or ms | p50 ms | p95 ms | p99 ms | longest ms |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['n']} | {row['p50']:.1f} | {row['p95']:.1f} | {row['p99']:.1f} | {row['p100']:.1f} |"
        for name, row in report["ms"].items()
    ]
    run = f"{report['date']}, {report['films']} films in {report['seconds']:.0f} s, {report['cores']} cores"
    state = f"system load {report['load']:.1f}, Chromium {report['chromium']}. Rows: {report['rows']}."
    return "\n".join([*lines, "", f"{run}, {state}"])


if __name__ == "__main__":
    main()
