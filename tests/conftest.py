"""Set-up shared by all tests."""

import os

from hypothesis import settings

# One profile: the same examples on every run, and no deadline on shared machines.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# What somebody tuned on this machine, or what is shipped for its GPU, must not decide what is tested.
os.environ.setdefault("SMIR_TUNING", "off")
