"""Tests of radserve.host.ray; tests/e2e/test_ray.py starts it."""

import subprocess

import psutil
import pytest

from radserve.host import ray


def test_children_end_with_their_descendants_except_the_trees_of_others() -> None:
    known = {child.pid for child in psutil.Process().children()}
    trees = [subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) for _ in range(2)]
    for tree in trees:
        assert tree.stdout
        with tree.stdout as output:
            output.readline()
    kept, ended = ([psutil.Process(tree.pid), *psutil.Process(tree.pid).children()] for tree in trees)
    try:
        ray.end_children({*known, kept[0].pid})
        assert len(ended) == 2
        assert psutil.wait_procs(ended, timeout=10)[1] == []
        assert [process.is_running() for process in kept] == [True, True]
    finally:
        for process in kept:
            process.kill()
        for tree in trees:
            tree.wait()


@pytest.mark.parametrize(
    ("workers", "gpus", "share"), [(2, 0, 0), (1, 1, 1), (1, 4, 1), (3, 1, 0.3333), (3, 2, 0.5), (4, 2, 0.5)]
)
def test_all_workers_fit_on_the_gpus(workers: int, gpus: int, share: float) -> None:
    assert ray.gpu_share(workers, gpus) == share
