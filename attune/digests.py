"""A digest of an object of the user's own: the same in every session for the same code and content, another for any other.

Pickles do not serve: they hold numbers that are drawn when a class is first seen.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from search.meaning import code_digest

OURS = ("attune", "spaces", "evaluators", "search")
PLAIN = (type(None), bool, int, float, complex, str, bytes, range)
CONTENT = (*PLAIN, list, tuple, dict, set, frozenset, torch.Tensor, np.ndarray)


def digest_of(thing: Any) -> str:
    """Eight hexadecimal digits of what an object does and holds.

    Code is its source without comments, with all that it names of the user's own; what an installed package defines is its
    name. An object of C code that tells nothing of itself is its type alone.
    """
    content = hashlib.blake2b(digest_size=4)
    for part in _parts(thing, {}):
        content.update(part)
        content.update(b"\0")
    return content.hexdigest()


def is_users(module: str | None) -> bool:
    """Whether a module is the user's own: neither Python's, nor an installed package, nor Attune."""
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if module is None or file is None or module.partition(".")[0] in OURS:
        return False
    places = {Path(place).resolve() for place in sysconfig.get_paths().values()}
    return not places & set(Path(file).resolve().parents)


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    if isinstance(thing, PLAIN):
        yield f"{type(thing).__name__} {thing!r}".encode()
        return
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # held, so that no other object gets its id
    yield f"{type(thing).__qualname__}".encode()
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().contiguous()
        yield f"{thing.dtype} {tuple(thing.shape)}".encode()
        yield thing.flatten().view(torch.uint8).numpy().tobytes() if thing.numel() else b""
    elif isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
        yield f"{thing.dtype} {thing.shape}".encode()
        yield np.ascontiguousarray(thing).tobytes()
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from _parts(key, seen)
            yield from _parts(value, seen)
    elif isinstance(thing, set | frozenset):
        yield repr(sorted(map(repr, thing))).encode()
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _parts(value, seen)
    elif isinstance(thing, FunctionType):
        yield from _function(thing, seen)
    elif isinstance(thing, MethodType):
        yield from _parts([thing.__func__, thing.__self__], seen)
    elif isinstance(thing, partial):
        yield from _parts([thing.func, thing.args, thing.keywords], seen)
    elif isinstance(thing, type):
        yield from _class(thing, seen)
    elif isinstance(thing, ModuleType):
        yield thing.__name__.encode()
    elif isinstance(thing, nn.Module):
        yield repr(thing).encode()
        yield from _parts([type(thing), dict(thing.state_dict())], seen)
        yield from _parts([type(module) for module in thing.modules()], seen)
    else:
        yield from _parts(type(thing), seen)
        yield from _parts(getattr(thing, "__dict__", None), seen)


def _function(function: FunctionType, seen: dict[int, Any]) -> Iterator[bytes]:
    yield f"{function.__module__}.{function.__qualname__}".encode() if not is_users(function.__module__) else b"own"
    if not is_users(function.__module__):
        return
    yield _source(function, function.__code__)
    yield from _parts([function.__defaults__, function.__kwdefaults__], seen)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents, seen)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield name.encode()
        yield from _parts(function.__globals__[name], seen)


def _class(cls: type, seen: dict[int, Any]) -> Iterator[bytes]:
    yield cls.__qualname__.encode()
    if not is_users(cls.__module__):
        yield cls.__module__.encode()
        return
    for name, value in vars(cls).items():
        inner = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(inner, FunctionType) or (not name.startswith("__") and isinstance(value, CONTENT)):
            yield name.encode()
            yield from _parts(inner, seen)
    yield from _parts(list(cls.__bases__), seen)


def _names(code: CodeType) -> set[str]:
    """The global names that a piece of code may read, the code inside of it too."""
    return set(code.co_names).union(*(_names(one) for one in code.co_consts if isinstance(one, CodeType)))


def _source(function: FunctionType, code: CodeType) -> bytes:
    """What a function does: its source, or its code where that cannot be had."""
    try:
        return code_digest(inspect.cleandoc("\n" + inspect.getsource(function))).encode()
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or a lambda in the middle of a line
        return _code(code)


def _code(code: CodeType) -> bytes:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    plain = [one for one in code.co_consts if not isinstance(one, CodeType)]
    return code.co_code + repr((code.co_names, plain)).encode() + b"".join(map(_code, inner))
