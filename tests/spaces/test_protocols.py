"""What a protocol asks for is found where it is, and where it is passed on."""

from typing import Any, Protocol

from evaluators.tasks.base import Task, Watching
from spaces.protocols import offers


class Named(Protocol):
    name: str


class Speaking(Named, Protocol):
    def speak(self) -> str: ...


class Dog:
    name = "dog"

    def speak(self) -> str:
        return "wuff"


class PassesOn:
    def __init__(self, inside: object) -> None:
        self.inside = inside

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)


def test_it_is_found_where_it_is_and_where_it_is_passed_on() -> None:
    for thing in (Dog(), PassesOn(Dog()), PassesOn(PassesOn(Dog()))):
        assert offers(thing, Speaking)
        assert not offers(thing, Watching)
        assert not offers(thing, Task)


def test_a_part_is_not_enough() -> None:
    assert not offers(PassesOn(object()), Named)
    assert offers(type("OnlyNamed", (), {"name": "a"})(), Named)
    assert not offers(type("OnlyNamed", (), {"name": "a"})(), Speaking)
