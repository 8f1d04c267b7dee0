"""The levels of IR: mixer, operator, tile and kernel, each with a printer, a parser and a verifier."""
