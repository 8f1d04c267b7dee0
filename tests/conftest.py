"""Set-up shared by all tests."""

from hypothesis import settings

# One profile: the same examples on every run, and no deadline on shared machines.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
