"""The site has a place for everything: keys, messages, types, verbs. Building it whole, with its links, is `make docs`."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel

from docs.site import api, commands, messages, pages, settings
from evaluators.data.options import Options
from evaluators.sections import Section
from search.config import validate

DOCS = Path(pages.__file__).parents[1]


def below(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in section.__subclasses__():
        yield one
        yield from below(one)


def test_every_key_of_the_configuration_has_a_type_a_default_and_a_meaning() -> None:
    keys = [(title, key) for title, _, rows in settings.tables() for key in rows]
    assert len(keys) > 150
    assert not [(title, key) for title, key in keys if not (key.path and key.type and key.default and key.meaning)]
    assert len({(title, key.path) for title, key in keys}) == len(keys)
    assert not [key for _, key in keys if re.search(r"<|object at|typing|PydanticUndefined", key.type + key.default)]


def test_every_section_and_every_source_of_data_is_in_the_reference() -> None:
    # What only gives its keys on to others is not chosen itself.
    shown = {what for _, what, _ in settings.tables()}
    leaves = [one for base in (Section, Options) for one in below(base) if not one.__subclasses__()]
    ours = [one for one in leaves if one.__module__.partition(".")[0] in ("evaluators", "search")]
    assert not [one.__name__ for one in ours if settings._what(one) not in shown]


def test_the_reference_says_types_and_limits_in_words() -> None:
    found = {key.path: key for _, _, rows in settings.tables() for key in rows}
    assert found["training.epochs"].type == "integer from 1 to 1,000,000"
    assert found["training.warmup"].type == "number from 0 to 1,000,000"
    assert found["space.sites"] == settings.Key("space.sites", "list of text", "`[slot]`", found["space.sites"].meaning)
    assert found["training.schedule"].type == "`cosine`, `poly`, `constant`"
    assert found["space.backbone"].default == "required"
    assert found["evaluator.network.classes"].type == "integer from 1"


def test_every_message_of_check_has_its_section() -> None:
    page = (DOCS / "check.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for text in messages.warnings():
        having = [one.partition("\n")[0] for one in sections if f"```text\nwarning: {text}\n```" in one]
        assert len(having) == 1, f"docs/check.md needs one section for: {text}"
    for text in messages.refusals():
        assert f"```text\n{text}\n```" in page, f"docs/check.md needs: {text}"
    told = re.findall(r"```text\nwarning: (.*)\n```", page)
    assert not set(told) - set(messages.warnings()), "docs/check.md tells of warnings that are no more"


def test_every_verb_and_everything_that_attune_gives_is_in_the_reference() -> None:
    text = commands.markdown()
    for name, verb in commands.verbs().items():
        assert f"\n## {name}\n" in text
        assert verb.help, name
    assert "`--max METRIC=LIMIT`" in text
    objects = api.markdown()
    assert all(f":: attune.{name}\n" in objects for name in api.attune.__all__)


def test_what_pages_have_people_type_is_understood() -> None:
    """Commands name verbs and options that there are, and configurations are accepted."""
    verbs, lines, whole = commands.verbs(), 0, {"space": {"backbone": "attune_tiny"}, "data": "digits"}
    for page in sorted(DOCS.glob("*.md")):
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for verb, rest in re.findall(r"^(?:attune|python run_search\.py) ([a-z]+)\b(.*)$", block, re.MULTILINE):
                lines += 1
                assert verb in verbs, f"{page.name}: {verb}"
                known = {option for one in verbs[verb].params for option in one.opts}
                assert set(re.findall(r" (--[a-z-]+)", rest.partition(" #")[0])) <= known, f"{page.name}: {verb}{rest}"
            if language == "yaml" and page.stem in ("configuration", "own_images", "own_network", "deployment"):
                given = yaml.safe_load(block)
                validate({**whole, **given}, page.name)
    assert lines > 25


def test_pages_are_prepared_for_the_site() -> None:
    index = pages.prepared("README", (DOCS / "README.md").read_text())
    assert ":caption: Tutorials" in index
    assert "\nown_trainer\n" in index
    assert "../" not in pages.prepared("architecture", (DOCS / "architecture.md").read_text())
    assert "\nattention/cbam\n" in pages.prepared("attention", "# The attention library\n")
    assert "](/architecture.md#words)" in pages.prepared("contributing", "<!-- generated: contributing -->\n")
