"""An attention type as one readable Python file that needs torch only: its code, its paper, and its own test."""

from __future__ import annotations

from jinja2 import Environment, StrictUndefined

from search.export.calls import attention_call, homes_of, literal
from search.export.copying import Sources
from spaces.attention import attention_type
from spaces.errors import UsageError
from spaces.placement import Placement

TEMPLATE = '''"""{{ placement }}: {{ paper }}

{{ equation }}
Parameters: {{ formula }} ({{ params|count }} at {{ channels }} channels).
(B, C, H, W) -> (B, C, H, W), for any H and W. Written by Attune; it needs {{ needs }} only. `python FILE` runs its test.
Shapes in names: B batch, C channels, h hidden width, H W map, P positions, 1 a broadcast axis.

SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

{% for line in imports %}{{ line }}
{% endfor %}
{% for definition in definitions %}

{{ definition }}
{% endfor %}

def create_{{ function }}() -> nn.Module:
    """{{ placement }} at {{ channels }} channels."""
    return {{ call }}


if __name__ == "__main__":
    module = create_{{ function }}()
    x_BCHW = torch.randn(2, {{ channels }}, 16, 12, requires_grad=True)
    y_BCHW = module(x_BCHW)
    y_BCHW.sum().backward()
    assert y_BCHW.shape == x_BCHW.shape and y_BCHW.isfinite().all()
    assert x_BCHW.grad is not None and x_BCHW.grad.isfinite().all()
    assert sum(parameter.numel() for parameter in module.parameters()) == {{ params }}
    print("{{ function }}: the shape stays, gradients are finite, {{ params|count }} parameters")
'''


def attention_source(text: str, channels: int = 64) -> str:
    """The text of the file, for a placement such as ``cbam-r16-k7`` at so many channels; its site plays no role.

    Raises UsageError for ``none``, an unknown type, and genes that do not fit it or the channels.
    """
    placement = Placement.parse(text)
    if placement.is_none:
        raise UsageError(
            "'none' is no attention; valid: a type, as `list attentions` names them, with genes or without"
        )
    entry = attention_type(placement.type)
    entry.check(channels, **placement.genes)
    sources = Sources(homes_of([placement]))
    call = attention_call(placement, channels, 2, False, sources)
    for module, name in (("torch", ""), ("torch", "nn")):
        sources.need(module, name)
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["count"] = lambda number: f"{number:,}"
    written = Placement(placement.type, **entry.resolve(channels, **placement.genes))
    return environment.from_string(TEMPLATE).render(
        placement=str(written),
        paper=entry.paper,
        equation=entry.equation,
        formula=entry.formula,
        params=entry.params(channels, **placement.genes),
        channels=literal(channels),
        needs=" and ".join(sources.packages()),
        imports=sources.import_lines(),
        definitions=sources.definitions(),
        function=placement.type.replace("+", "_with_"),
        call=call,
    )
