"""The text that Prometheus reads, checked by a strict reader of its own."""

import re

from strogoff.http.prometheus import exposition
from strogoff.observe.metrics import Series

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\} (-?\d+)')


def read(text: str) -> dict[str, list[tuple[str, int]]]:
    """Name -> labels and value of its samples. Fails for what breaks the format."""
    assert text.endswith("\n")
    samples: dict[str, list[tuple[str, int]]] = {}
    described = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            described = line.split(" ", 3)[2]
            assert described not in samples, f"the samples of {described} do not stand together"
            samples[described] = []
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == described
            assert line.split(" ")[3] in ("counter", "gauge")
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, f"not a sample: {line}"
            assert sample[1] == described
            samples[described].append((sample[2], int(sample[3])))
    return samples


def test_series_of_one_name_stand_together_with_the_node_first() -> None:
    rows = [
        Series("a", "counter", 1, "First.", {"mqtt_version": "4"}),
        Series("b", "gauge", 2, "Second."),
        Series("a", "counter", 3, "First.", {"mqtt_version": "5"}),
    ]
    found = read(exposition(rows, node="n@h", namespace="vernemq_"))
    assert found == {
        "vernemq_a": [('node="n@h",mqtt_version="4"', 1), ('node="n@h",mqtt_version="5"', 3)],
        "vernemq_b": [('node="n@h"', 2)],
    }


def test_what_would_break_the_format_is_escaped() -> None:
    rows = [Series("a", "counter", 1, "Two\nlines \\ here.", {"plugin": 'a"b\\c\nd'})]
    text = exposition(rows, node="n", namespace="")
    assert read(text) == {"a": [('node="n",plugin="a\\"b\\\\c\\nd"', 1)]}
    assert "# HELP a Two\\nlines \\\\ here." in text
