"""`python -m smir` is the command `smir`."""

from smir.cli import main

if __name__ == "__main__":
    main()
