"""Triton backend: prints kernel plans as Triton kernels, compiles them ahead of time, and runs them."""
