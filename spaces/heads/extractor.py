"""Feature maps of any backbone whose stages are known: the backbone as a torch.fx graph whose leaves are its blocks.

The graph ends at the maps that are asked for, so what lies behind them is left out. All else keeps its module and its name:
a trained classifier's weights fit, and attention is inserted at the same sites. A map from inside a block makes that block
a graph of its own, which stays one module that is called.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import Any

from torch import fx, nn

from spaces.backbones.insertion import is_layer

INSIDE = ">"  # between the path of a block and that of a module inside of it


class NoMaps(ValueError):
    """The maps of a network cannot be taken."""


class _Tracer(fx.Tracer):
    """Stops at the named modules, and at every module below which nothing has weights."""

    def __init__(self, leaves: Collection[str]) -> None:
        super().__init__()
        self.leaves = frozenset(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays as it is."""
        return module_qualified_name in self.leaves or (is_layer(m) and not isinstance(m, nn.Sequential))


def extract(
    model: nn.Module, leaves: Collection[str], taps: Sequence[str], sites: Collection[str] = ()
) -> fx.GraphModule:
    """The part of a network that makes these maps, as a module: (B, C, H, W) -> a tuple of maps in the order of ``taps``.

    ``leaves``: paths of blocks, which stay as they are. ``taps``: paths of modules whose output is wanted; ``BLOCK>MODULE``
    is one inside of a block. ``sites``: paths inside of blocks after which attention may run. The network's own modules are
    used, not copies. Raises NoMaps where torch.fx cannot trace what lies outside of the blocks.
    """
    inside = dict(tap.split(INSIDE) for tap in taps if INSIDE in tap)
    for path, inner in inside.items():
        below = [site.removeprefix(f"{path}.") for site in sites if site.startswith(f"{path}.")]
        block = model.get_submodule(path)
        graph = _trace_graph(block, [inner, *below])
        parent, _, name = path.rpartition(".")
        setattr(
            model.get_submodule(parent),
            name,
            _end_graph(block, graph, [_output_node(graph).args[0], _called(graph, inner)]),
        )
    graph = _trace_graph(model, [*leaves, *(tap for tap in taps if INSIDE not in tap)])
    maps = {path: _called(graph, path) for path in (tap.partition(INSIDE)[0] for tap in taps)}
    for path, inner in inside.items():  # these give a pair: their own map, and the one from inside
        pair = maps[path]
        with graph.inserting_after(pair):
            second, first = (graph.call_function(operator.getitem, (pair, index)) for index in (1, 0))
        pair.replace_all_uses_with(first, delete_user_cb=lambda user: user.target is not operator.getitem)
        maps[path], maps[f"{path}{INSIDE}{inner}"] = first, second
    return _end_graph(model, graph, [maps[tap] for tap in taps])


def _trace_graph(model: nn.Module, leaves: Collection[str]) -> fx.Graph:
    """The graph of a module's forward pass, which has to be the same in training and in eval mode."""
    graphs, training = [], model.training
    tracer = _Tracer(leaves)
    if hasattr(model, "forward_features"):  # of timm: what comes after is pooled
        tracer.traced_func_name = "forward_features"
    try:
        for mode in (True, False):
            model.train(mode)
            graphs.append(tracer.trace(model))
    except Exception as error:  # of torch.fx, and of a network's own code when it meets a proxy
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise NoMaps(
            f"the feature maps of a {type(model).__name__} cannot be taken, since torch.fx cannot follow what it does outside "
            f"of its blocks: {reason}"
        ) from error
    finally:
        model.train(training)
    if str(graphs[0]) != str(graphs[1]):
        raise NoMaps(
            f"the feature maps of a {type(model).__name__} cannot be taken: outside of its blocks it does other things in "
            "training than in evaluation"
        )
    return graphs[0]


def _called(graph: fx.Graph, path: str) -> fx.Node:
    """The last call of a module; raises NoMaps where there is none."""
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == path]
    if not calls:
        raise NoMaps(f"the network does not call its module {path!r}, so there is no map to take from it")
    return calls[-1]


def _output_node(graph: fx.Graph) -> fx.Node:
    return next(node for node in graph.nodes if node.op == "output")


def _end_graph(model: nn.Module, graph: fx.Graph, maps: Sequence[Any]) -> fx.GraphModule:
    """A module with a graph that ends behind these maps."""
    graph.erase_node(_output_node(graph))
    graph.output(tuple(maps))
    made = fx.GraphModule(model, graph, type(model).__name__)
    made.graph.eliminate_dead_code()
    made.delete_all_unused_submodules()
    made.recompile()
    made.train(model.training)
    return made
