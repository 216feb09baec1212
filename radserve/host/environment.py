"""Environment variables that child processes inherit."""

import os
import re
from typing import Final

_INHERITED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|LD_PRELOAD|GLIBC_TUNABLES|XDG_CACHE_HOME"
    r"|SSL_CERT_(?:FILE|DIR)|OPENSSL_\w+"
    r"|JAVA_HOME|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS"
    r"|NVIDIA_(?:VISIBLE_DEVICES|DRIVER_CAPABILITIES|TF32_OVERRIDE|(?:DISABLE_)?REQUIRE\w*)"
    r"|(?:CUDA|CUDNN|CUBLAS|NCCL|TORCH\w*|PYTORCH|TRITON|ATEN|OMP|MKL|DNNL|ONEDNN|KMP|GOMP|OPENBLAS|MALLOC)_\w+"
)
_FURTHER: Final = "RADSERVE_PASS_ENVIRONMENT"
"""Environment variable: comma-separated names of further variables that workers need."""


def inherited_environment() -> dict[str, str]:
    """Return the variables for processes that handle clients' bytes: no credentials of this process."""
    further = {name.strip() for name in os.environ.get(_FURTHER, "").split(",")}
    return {name: text for name, text in os.environ.items() if _INHERITED.fullmatch(name) or name in further}
