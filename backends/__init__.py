"""Backends: numpy reference interpreters, and printers of kernels."""
