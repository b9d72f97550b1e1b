"""The traced network, which several formats are made from."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
import torch._dynamo
from torch import nn

from search.export.subject import Subject
from spaces.errors import UsageError
from spaces.network import NetworkSpec


def traced(subject: Subject, model: nn.Module, *, any_size: bool = False) -> torch.export.ExportedProgram:
    """torch.export's program of the network in eval mode, for any number of images of its size, or of any size.

    The last one is kept, so that formats which start from it share one tracing. Raises UsageError for a network that is
    bound to the size it was made for.
    """
    return _traced(model, subject.network, any_size)


@lru_cache(maxsize=1)
def _traced(model: nn.Module, network: NetworkSpec, any_size: bool) -> torch.export.ExportedProgram:
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if any_size:
        height = len(network.size)  # its axis; of clips the one behind their frames
        axes |= {height: torch.export.Dim.DYNAMIC, height + 1: torch.export.Dim.DYNAMIC}
    try:
        with quiet():
            return torch.export.export(model, network.example(2, seed=0), dynamic_shapes=(axes,))
    except torch._dynamo.exc.UserError as error:
        if not any_size:
            raise
        raise UsageError(
            f"--dynamic size: this network is bound to inputs of {network.size}: {str(error).splitlines()[0]}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """torch's exporters print their progress and warn about their own insides; what goes wrong they raise.

    Without gradients, which nothing here needs, they trace half as much.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
