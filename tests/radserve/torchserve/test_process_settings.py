"""Tests of radserve.torchserve.process_settings."""

import os
import resource
from dataclasses import replace

from radserve.torchserve.process_settings import ProcessSettings


def test_a_fork_takes_no_settings_that_may_need_a_privilege() -> None:
    own = ProcessSettings.of(os.getpid())
    limit, (soft, _) = next((limit, pair) for limit, pair in own.limits.items() if pair[0] >= 0)
    lower = replace(own, limits={**own.limits, limit: (soft, soft)}, niceness=own.niceness + 1)
    assert lower.privileged(own) == ""
    assert replace(own, niceness=own.niceness - 1).privileged(own) == "niceness"
    assert replace(own, oom_score=own.oom_score - 1).privileged(own) == "oom_score_adj"
    more = replace(own, limits={**own.limits, limit: (soft, resource.RLIM_INFINITY)})
    assert more.privileged(replace(own, limits={**own.limits, limit: (soft, soft)})) == "a resource limit"
