"""The library's specs by name."""

from pathlib import Path

import smir

LIBRARY = {p.stem: p.read_text() for p in sorted((Path(smir.__file__).parent / "library").glob("*.smir"))}
