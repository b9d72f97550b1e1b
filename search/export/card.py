"""The README of an exported model: what it is, what it costs, how well it did, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

from evaluators.cost import count_cost
from search.results import Results
from spaces import Architecture

_TEMPLATE = """\
# {{ spec.architecture }}

Found by Attune, which searches where attention belongs in a convolutional network.

| | |
|---|---|
| input | {{ spec.in_chans }} x {{ spec.image_size }} x {{ spec.image_size }} |
| classes | {{ spec.num_classes }} |
| parameters | {{ "{:,}".format(cost.params) }} |
| MACs | {{ "{:,}".format(cost.macs) }} |
| FLOPs (fvcore: one fused multiply-add is one) | {{ "{:,}".format(cost.flops) }} |
{%- if row %}
| accuracy on the validation split | {{ "%.4f"|format(row.accuracy) }}{{ spread }} |
{%- endif %}

| stage | placement | params added | FLOPs added |
|---|---|---|---|
{%- for stage in cost.stages %}
| {{ loop.index }} | `{{ stage.placement }}` | {{ "{:,}".format(stage.params) }} | {{ "{:,}".format(stage.flops) }} |
{%- endfor %}
{% if row %}
Trained on `{{ data }}` for {{ row.fidelity }} epochs with seed {{ seed }}; the plain backbone reached
{{ "%.4f"|format(plain) }} in the same way. Validation accuracy chose this architecture among {{ evaluated }}, so it is somewhat
optimistic.
{% else %}
The weights are fresh: no run is behind this export.
{% endif %}
## Loading

```python
from search.export import load_exported

model = load_exported("path/to/this/folder")
```

gives a `torch.nn.Module` in eval mode, from (B, {{ spec.in_chans }}, {{ spec.image_size }}, {{ spec.image_size }}) to logits
(B, {{ spec.num_classes }}).
{% if spec.mean is defined %}
Inputs are images in [0, 1], normalised with mean {{ spec.mean }} and standard deviation {{ spec.std }}.
{% endif %}"""


def model_card(spec: Mapping[str, Any], row: Mapping[str, Any] | None, results: Results | None) -> str:
    """Markdown for one exported architecture; ``row`` and ``results`` are None where no run is behind it."""
    cost = count_cost(
        Architecture.parse(spec["architecture"]),
        image_size=spec["image_size"],
        num_classes=spec["num_classes"],
        in_chans=spec["in_chans"],
        native=spec["native"],
    )
    known: dict[str, Any] = {}
    if row is not None and results is not None:
        plain = str(Architecture.plain(results.config.space.backbone))
        accuracy = results.summary.loc[results.summary["architecture"] == plain, "accuracy"]
        known = {
            "spread": f" ± {row['accuracy_std']:.4f} over {row['seeds']} seeds" if row["seeds"] > 1 else " (one seed)",
            "data": results.config.data,
            "seed": results.config.seed,
            "plain": float(accuracy.iloc[0]) if len(accuracy) else float("nan"),
            "evaluated": len(results.summary),
        }
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(_TEMPLATE)
    return template.render(spec=spec, row=row, cost=cost, **known)
