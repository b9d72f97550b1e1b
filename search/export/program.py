"""The traced network, which several formats are made from."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import nn

from search.export.subject import Subject
from spaces.network import NetworkSpec


def traced(subject: Subject, model: nn.Module) -> torch.export.ExportedProgram:
    """torch.export's program of the network in eval mode, for any number of images of its size.

    The last one is kept, so that formats which start from it share one tracing.
    """
    return _traced(model, subject.network)


@lru_cache(maxsize=1)
def _traced(model: nn.Module, network: NetworkSpec) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with quiet():
        return torch.export.export(model, network.example(2, seed=0), dynamic_shapes=({0: batch},))


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
