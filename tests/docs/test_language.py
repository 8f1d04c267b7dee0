"""docs/language.md is true: every block is read, every mistake fails as shown, every limit is listed."""

import re
from pathlib import Path

import pytest

from smir import errors
from smir.frontends import limits, names, parse_mixer
from smir.frontends.functions import FUNCTIONS
from smir.frontends.masks import MASKS
from smir.source import Source

TEXT = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\S*) ?(.*)\n((?:.*\n)*?)^```$", TEXT, re.MULTILINE)
SPECS = [(info, body) for kind, info, body in BLOCKS if kind == "smir"]


def title(value):
    return value.split()[1] if value.startswith("mixer") else None


@pytest.mark.parametrize("body", [body for info, body in SPECS if not info], ids=title)
def test_examples_are_mixers(body):
    assert parse_mixer(Source("spec.smir", body)).name in body


def mistakes():
    """Each wrong block with the class that it names and the text block that follows it."""
    for number, (kind, info, body) in enumerate(BLOCKS):
        if kind == "smir" and info:
            following, _, shown = BLOCKS[number + 1]
            assert following == "text"
            yield body, info.removeprefix("error="), shown


@pytest.mark.parametrize(("body", "error", "shown"), list(mistakes()), ids=title)
def test_mistakes_fail_as_shown(body, error, shown):
    with pytest.raises(getattr(errors, error)) as caught:
        parse_mixer(Source("spec.smir", body))
    assert str(caught.value) == shown.rstrip("\n")


def test_every_error_class_of_a_spec_is_listed():
    for name in vars(errors):
        if name.startswith("Spec"):
            assert f"| `{name}` |" in TEXT


def test_reserved_words_and_limits_are_listed():
    reserved = re.search(r"These names are taken:(.*?)\n\n", TEXT, re.DOTALL)[1]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`(.*?)`", reserved, re.DOTALL))))
    keywords = re.findall(r'^[A-Z]+: "([a-z]+)"$', grammar_text(), re.MULTILINE)
    assert words == {*keywords, *names.CALL_KEYWORDS, names.OUTPUT, names.TIME_INDEX, names.LENGTH, "i", "j", "m"}
    for limit in (limits.MAX_CHARACTERS, limits.MAX_STATEMENTS, limits.MAX_DEPTH, limits.MAX_NAME, limits.MAX_OFFSET):
        assert re.search(rf"\b({limit:,}|{limit})\b", TEXT), limit


def grammar_text():
    return (Path(__file__).parents[2] / "frontends" / "grammar.lark").read_text(encoding="utf-8")


def test_functions_and_masks_do_not_collide():
    assert not set(FUNCTIONS) & set(MASKS)
