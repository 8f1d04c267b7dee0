"""Where SMIR keeps what it can make again: printed kernels and tuned configurations."""

import os
from pathlib import Path

CACHE_VARIABLE = "SMIR_CACHE_DIR"


def cache_root() -> Path:
    """`$SMIR_CACHE_DIR`, or the user's cache directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("smir")
