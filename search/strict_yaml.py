"""YAML as configurations need it: what it would silently change, or what would not end, is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from spaces.errors import UsageError, cut, shortened

MOST_BYTES = 2**20  # of a configuration
MOST_VALUES = 100_000  # of a configuration with its aliases written out: a few lines can stand for billions
_OCTAL_OR_TIME = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-9_.]+)+)")
_PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")


def load_yaml(content: str | bytes, where: str) -> Any:
    """The value of a YAML text; ``where`` begins every message.

    Raises UsageError for what is no UTF-8 or no YAML, for repeated keys, tags, recursion, numbers that YAML reads as others
    (010 is 8, 1:30 is 90), and for more than MOST_VALUES values.
    """
    if len(content) > MOST_BYTES:
        raise UsageError(f"{where} has {len(content):,} bytes; valid: up to {MOST_BYTES:,}")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    except (yaml.YAMLError, _Refused) as error:
        raise UsageError(f"{where} is not YAML: {cut(str(error), 300)}") from None
    except (ValueError, OverflowError) as error:  # a number of thousands of digits, the thirtieth of February
        raise UsageError(f"{where}: {cut(str(error), 300)}") from None


class _Refused(Exception):
    """What is YAML, but not meant."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag.endswith(":merge"):
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _Refused(f"line {key_node.start_mark.line + 1}: a key is a list or a mapping")
            line = key_node.start_mark.line + 1
            if key in seen:
                raise _Refused(f"the key {shortened(key)} is given twice, in lines {seen[key]} and {line}")
            seen[key] = line
        return super().construct_mapping(node, deep)


def _check(node: yaml.Node, sizes: dict[int, int], open_: set[int]) -> int:
    """The number of values below a node; raises _Refused for what a configuration cannot mean."""
    if id(node) in sizes:
        return sizes[id(node)]
    line = node.start_mark.line + 1
    if id(node) in open_:
        raise _Refused(f"line {line}: a value contains itself")
    kind = node.tag.rpartition(":")[2]
    if not node.tag.startswith("tag:yaml.org,2002:") or kind not in _PLAIN:
        raise _Refused(f"line {line}: the tag {shortened(node.tag)}; valid: no tags")
    open_.add(id(node))
    size = 1
    if isinstance(node, yaml.ScalarNode) and kind in ("int", "float") and _OCTAL_OR_TIME.fullmatch(node.value):
        raise _Refused(f"line {line}: {node.value} would be read as another number; write it in decimals, or quote it")
    if isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, sizes, open_) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        size += sum(_check(key, sizes, open_) + _check(value, sizes, open_) for key, value in node.value)
    if size > MOST_VALUES:
        raise _Refused(f"line {line}: more than {MOST_VALUES:,} values with its aliases written out")
    open_.discard(id(node))
    sizes[id(node)] = size
    return size
