"""Text format of the metrics that the workers report."""

import json
from collections.abc import Mapping, Sequence


def exposition(
    values: Mapping[tuple[str, tuple[str, ...]], float], labels: Mapping[str, Sequence[str]], kinds: Mapping[str, str]
) -> str:
    """Return metrics in the text format of Prometheus; a value belongs to a metric and the values of its labels."""
    lines = []
    for name in dict.fromkeys(name for name, _ in values):
        lines.append(f"# TYPE {name} {kinds[name]}")
        for (other, texts), value in values.items():
            if other == name:
                quoted = [json.dumps(text, ensure_ascii=False) for text in texts]
                lines.append(f"{name}{{{','.join(map('{}={}'.format, labels[name], quoted))}}} {value}")
    return "\n".join([*lines, ""])
