"""The assembler that makes machine code: the newer one of Triton's package, unless the user has chosen."""

import os
import subprocess
import sys

import pytest

from smir.backends.triton_gpu.assembler import VARIABLE

CODE = """
import os, triton
from smir.backends.triton_gpu.assembler import prepare_assembler
prepare_assembler()
print(triton.knobs.nvidia.ptxas.version, triton.knobs.nvidia.ptxas_blackwell.version, os.environ.get("%s"))
"""


def run(environment: dict[str, str]) -> list[str]:
    """Version in use, the newer version, and the variable, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE % VARIABLE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_hopper_gets_an_assembler_that_keeps_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    used, newer, _ = run(dict(os.environ))
    assert used == newer and tuple(map(int, used.split("."))) > (12, 8)


def test_a_chosen_assembler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/ptxas")
    assert run(dict(os.environ))[2] == "/nowhere/ptxas"
