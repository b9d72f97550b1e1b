"""Attention types and a backbone from a package outside of the tree, and a gene that is one entry of the table.

Everything runs in a process of its own, over a copy of the tree: what is registered stays registered.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).parents[3]
TABLE = Path("spaces", "attention", "genes.py")
GENE = 'Gene("branches", "branches", "n", (1, 2, 4), unit="n doubled", measure=math.log2),'

LAYERS = """
from torch import Tensor, nn

def scale(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 1, groups=channels)
"""

ATTENTION = """
from timm.layers import EcaModule
from torch import Tensor, nn

from spaces.attention import AttentionType, Gate, part, register
from spaces.attention.parts import conv

from .layers import scale

class Window(Gate):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = conv(2, channels, channels, kernel, groups=channels)

    def logits(self, x: Tensor) -> Tensor:
        return self.conv(x)

class Branches(Gate):
    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([scale(channels) for _ in range(branches)])

    def logits(self, x: Tensor) -> Tensor:
        return sum(part(x) for part in self.branches)  # a local variable, not the function above

WINDOW = part("window", "spatial", lambda s: Window(s.channels, s.kernel), lambda s: (s.kernel**2 + 1) * s.channels, kernel=5)
BRANCHES = part(
    "branches", "whole", lambda s: Branches(s.channels, s.branches), lambda s: 2 * s.channels * s.branches, branches=2
)
EFFICIENT = part(
    "efficient", "channel", lambda s: nn.Sequential(EcaModule(kernel_size=s.kernel)), lambda s: s.kernel, kernel=3
)
register(
    *(AttentionType(one.id, (one,), "none", "as in the code") for one in (WINDOW, BRANCHES, EFFICIENT)),
)
"""

NETWORK = """
from timm.models import register_model
from torch import nn

class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.skip = nn.Identity() if (inside, stride) == (outside, 1) else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + self.skip(x)

@register_model
def toy_network(pretrained=False, num_classes=10, in_chans=3, **options):
    stages = [Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1), Block(16, 32, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes)]
    return nn.Sequential(nn.Conv2d(in_chans, 8, 3, 2, 1), *stages, *head)
"""

SCRIPT = """
import json
import sys
from pathlib import Path

import numpy as np
import toys.attention
import toys.network
import torch
from evaluators.cost import CostTable, count_network
from search.analysis.attribution import fanova
from search.config import SpaceConfig
from search.export import export, load_exported
from spaces import Architecture, NetworkSpec, Placement, build_model
from spaces.attention import attention_type, create_attention

arch = Architecture.parse("toy_network:window,branches-n4@block,efficient-k5@slot")
found = {"text": str(arch), "repr": [repr(p) for p in (*arch.placements, Placement("se", reduction=4))]}
found["outside"] = {name: attention_type(name).outside for name in ("se", "window", "eca+window", "efficient")}
module = create_attention("branches", 8, branches=3)
found["params"] = [sum(p.numel() for p in module.parameters()), attention_type("branches").params(8, branches=3)]

space = SpaceConfig(backbone="attune_tiny", attentions=("none", "branches", "window"), branches=[1, 4], kernels=[3, 5]).build()
found["stage"] = [str(placement) for placement in space.choices[0]]
found["names"] = list(space.distributions)[:3]
everything = [space.architecture(row) for row in space.sample(np.random.default_rng(0), 40)]
found["fanova"] = len(fanova([one.placements for one in everything], np.arange(40.0)))

network = NetworkSpec.classifier(32, 10)
mixed = Architecture.parse("attune_tiny:se,window,branches")
for one in (arch, mixed):
    assert CostTable(one.backbone, network).cost(one) == count_network(one, network)
found["cached"] = "".join(path.read_text() for path in Path(sys.argv[1]).glob("costs-*.jsonl"))

torch.manual_seed(0)
model = build_model(arch, 10, image_size=32).train()
attention = [(name, weight) for name, weight in model.named_parameters() if ".attune." in name]
torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
found["learns"] = [name.rpartition(".attune.")[2] for name, weight in attention if weight.grad.abs().sum() > 0]
before = attention[0][1].clone()
torch.optim.SGD(model.parameters(), lr=0.1).step()
found["moved"] = not torch.equal(before, attention[0][1])

result = export(str(arch), to="exported", formats=["spec", "safetensors", "python", "timm"])
found["differences"] = [check.difference for check in result.checks]
found["loaded"] = type(load_exported("exported")).__name__
print(json.dumps(found))
"""


pytestmark = pytest.mark.matrix  # what is outside of the tree comes into a search in tests/test_extending.py


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script tells, in a tree whose table of genes has one entry more."""
    root = tmp_path_factory.mktemp("tree")
    for package in ("spaces", "evaluators", "search"):
        shutil.copytree(TREE / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    table = (root / TABLE).read_text()
    entry = '    Gene("arrangement"'
    assert table.count(entry) == 1
    (root / TABLE).write_text(table.replace(entry, f"    {GENE}\n{entry}"))
    (home := root / "elsewhere" / "toys").mkdir(parents=True)
    (home / "__init__.py").touch()
    for name, text in {"layers": LAYERS, "attention": ATTENTION, "network": NETWORK}.items():
        (home / f"{name}.py").write_text(text)
    (root / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(root / "script.py"), str(root / "cache")],
        cwd=root,
        env={"PATH": "", "PYTHONPATH": str(home.parent), "ATTUNE_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"source": next((root / "exported").glob("*.py")).read_text()}


@pytest.mark.slow
def test_types_of_another_package_are_placements_like_ours(found: dict[str, Any]) -> None:
    assert found["text"] == "toy_network:window-k5@slot,branches-n4@block,efficient-k5@slot"
    assert found["outside"] == {"se": False, "window": True, "eca+window": True, "efficient": True}
    branches = [f"branches.{number}.{name}" for number in range(4) for name in ("weight", "bias")]
    assert found["learns"] == ["conv.weight", "conv.bias", *branches, *branches, "0.conv.weight"]
    assert found["moved"]


@pytest.mark.slow
def test_a_gene_is_one_entry_of_the_table(found: dict[str, Any]) -> None:
    assert found["stage"] == ["none", "branches-n1@slot", "branches-n4@slot", "window-k3@slot", "window-k5@slot"]
    assert found["names"] == ["stage1.type", "stage1.n", "stage1.k"]
    assert found["params"] == [48, 48]
    genes = "reduction=None, kernel=None, groups=None"
    assert found["repr"][1] == f"Placement(type='branches', {genes}, branches=4, arrangement=None, site='block')"
    assert (
        found["repr"][3] == "Placement(type='se', reduction=4, kernel=None, groups=None, arrangement=None, site=None)"
    )


@pytest.mark.slow
def test_counts_of_outside_code_are_not_kept_on_disk(found: dict[str, Any]) -> None:
    assert "('se'," in found["cached"]
    assert "attune_tiny" in found["cached"]
    assert not [word for word in ("window", "branches", "efficient", "toy_network") if word in found["cached"]]


@pytest.mark.slow
def test_outside_attention_is_exported_as_source(found: dict[str, Any]) -> None:
    assert found["differences"] == [0.0] * 4
    assert found["loaded"] == "Sequential"
    source = found["source"]
    assert "class Window(Gate):" in source
    assert "def scale(channels: int)" in source
    assert "from timm.layers.eca import EcaModule" in source
    assert "from toys.network import toy_network" in source
    assert "toys.attention" not in source
    assert "spaces" not in source
