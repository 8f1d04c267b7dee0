"""The numpy backend: one interpreter for every level of IR."""
