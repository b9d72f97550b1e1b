"""Sections: a name or a mapping becomes the section that is registered, and a mistake one line that names the key."""

import re
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from evaluators.sections import Brought, Named, Section, first_problem, one_of
from spaces.errors import UsageError
from spaces.plugins import Registry


class Apple(Named):
    name: Literal["apple"] = "apple"
    weight: int = Field(default=3, ge=1)


class BroughtFruit(Brought):
    pass


FRUITS: Registry[type[Named]] = Registry("fruit")
FRUITS.register("apple", Apple)
READ = one_of(FRUITS, "basket.fruit", "apple", BroughtFruit)


def test_a_name_stands_for_its_defaults_and_a_mapping_sets_some() -> None:
    assert READ("apple") == READ({}) == READ({"name": "apple"}) == Apple()
    assert READ({"weight": 5}) == Apple(weight=5)
    assert READ(READ({"weight": 5})) == Apple(weight=5)
    brought = READ({"name": "module:own.file:Pear", "options": {"juicy": True}})
    assert isinstance(brought, BroughtFruit)
    assert brought.options == {"juicy": True}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("aple", r"^unknown basket.fruit.name 'aple' \(did you mean 'apple'\?\); valid: apple$"),
        ({"name": "apple", "wieght": 5}, r"^unknown key 'basket.fruit.wieght'.*'weight'.*; valid: name, weight$"),
        ({"weight": 0}, r"^basket.fruit.weight = 0: input should be greater than or equal to 1$"),
        ({"weight": "heavy"}, r"^basket.fruit.weight = 'heavy': input should be a valid integer"),
        (3, r"^basket.fruit = 3: neither a name nor a section; valid names: apple$"),
        (
            {"name": "module:own.file:Pear", "weight": 1},
            r"^unknown key 'basket.fruit.weight'.*options",
        ),
    ],
)
def test_a_mistake_gets_one_line(value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        READ(value)
    assert "\n" not in str(caught.value)


def test_only_a_registry_that_takes_them_gets_the_users_own() -> None:
    with pytest.raises(UsageError, match=r"unknown basket.fruit.name 'module:own\.file:Pear'"):
        one_of(FRUITS, "basket.fruit", "apple")("module:own.file:Pear")


def test_a_problem_deep_inside_names_its_path_and_the_keys_there() -> None:
    class Basket(Section):
        first: Apple = Apple()
        count: int

    for value, words in (
        ({"count": 1, "first": {"wieght": 5}}, "unknown key 'first.wieght'.*valid: name, weight"),
        ({}, "the key 'count' is missing"),
    ):
        with pytest.raises(ValidationError) as caught:
            Basket.model_validate(value)
        assert re.search(words, first_problem(caught.value, Basket))


def take(model: object, epochs: int, juicy: bool = False) -> None: ...


def take_all(model: object, **options: object) -> None: ...


def test_options_are_those_that_the_object_takes() -> None:
    BroughtFruit(name="module:a:b", options={"juicy": True}).check_options(take, ("model", "epochs"))
    BroughtFruit(name="module:a:b", options={"anything": True}).check_options(take_all, ("model", "epochs"))
    for options, found in (({"juciy": True}, take), ({"epochs": 3}, take), ({"epochs": 3}, take_all)):
        with pytest.raises(UsageError, match=r"unknown option of 'module:a:b' '(juciy|epochs)'"):
            BroughtFruit(name="module:a:b", options=options).check_options(found, ("model", "epochs"))
