"""docs/serving.md is true: its programs run, one after the other."""

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def test_the_programs_of_the_page_run() -> None:
    scope: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert blocks
    for block in blocks:
        exec(block, scope)
