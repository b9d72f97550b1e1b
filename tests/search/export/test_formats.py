"""Every format of every attention type: written, loaded in a fresh process without Attune, compared."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.training import validate
from search.build import create_trainer
from search.export import export, load_exported
from search.export.check import Check, ExportError, check, logits
from search.export.files import CARD, SPEC, WEIGHTS
from search.export.format import Written, known_formats, write_formats
from search.export.loader import load_source
from search.export.source import model_source
from search.export.subject import Subject, make_spec, probe_input
from search.results import load
from spaces import Architecture
from spaces.attention import create_attention, list_attentions
from spaces.errors import UsageError
from tests.matrix import no_one, one_in, sampled

MIX = "eca+cbam-k7-parallel"
STAGES = 4
TRACED = ["onnx", "torch-export"]  # they see operators and no classes: a type is the same to them in any network
GALLERY, CHANNELS, MAP = 19, 8, 8
FORMATS = [one.name for one in known_formats()]


def architectures() -> list[str]:
    """Every attention type, and one mix, in networks of four stages; one in our own backbone, whose code is copied too."""
    names = [*list_attentions(), MIX]
    names += ["none"] * (-len(names) % STAGES)
    rows = [names[start : start + STAGES] for start in range(0, len(names), STAGES)]
    return ["attune_tiny:cbam@block,none,se@stage", *(f"test_resnet:{','.join(row)}" for row in rows)]


def make_subject(text: str, native: str = "keep", in_chans: int = 1, image_size: int = 32) -> Subject:
    arch = Architecture.parse(text)
    build = {"num_classes": 7, "in_chans": in_chans, "image_size": image_size}
    spec = make_spec(arch, **build, identity_start=True, native=native)
    return Subject(
        arch, spec | {"mean": [0.2] * in_chans, "std": [0.3] * in_chans, "class_names": ['a "quote"', *"bcdefg"]}
    )


def trained(subject: Subject) -> nn.Module:
    """A network in which no parameter or statistic is at its start, as after a training."""
    torch.manual_seed(0)
    return shaken(subject.model())


def shaken(model: nn.Module) -> nn.Module:
    """The same with noise on every parameter and statistic."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
        for tensor in model.buffers():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model


def write(text: str, folder: Path, formats: list[str], native: str = "keep") -> Written:
    folder.mkdir()
    subject = make_subject(text, native)
    return write_formats(subject, trained(subject), folder, formats)


class Gallery(nn.Module):
    """Attention modules side by side: (B, C, H, W) -> (B, modules, C, H, W)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.modules_N = nn.ModuleList(create_attention(name, CHANNELS) for name in names)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.stack([attention(x_BCHW) for attention in self.modules_N], dim=1)


def galleries() -> list[list[str]]:
    """Every attention type once, a few at a time: converters take longer than in proportion to a network's size."""
    names = [*list_attentions(), "eca+cbam"]
    return [names[start : start + GALLERY] for start in range(0, len(names), GALLERY)]


def write_gallery(names: Sequence[str], folder: Path) -> Written:
    """A gallery in the formats that trace a network; its subject gives the size of its input."""
    folder.mkdir()
    torch.manual_seed(0)
    subject = make_subject("attune_tiny:none,none,none", in_chans=CHANNELS, image_size=MAP)
    return write_formats(subject, shaken(Gallery(names).eval()), folder, TRACED)


@pytest.fixture(scope="module")
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Check]]:
    """Architectures as code, one of them and galleries as traced programs too, loaded by one fresh process.

    Of all those that a test is to run with.
    """
    root = tmp_path_factory.mktemp("exports")
    code = [name for name in FORMATS if name not in TRACED]
    wanted = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    texts = [text for text in architectures() if {"text": text} in wanted]
    rows = [names for names in galleries() if {"names": names} in wanted]
    first = architectures()[0]
    written = {text: write(text, root / str(n), FORMATS if text == first else code) for n, text in enumerate(texts)}
    written |= {"+".join(names): write_gallery(names, root / f"gallery{n}") for n, names in enumerate(rows)}
    return dict(zip(written, check(list(written.values())), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("text", sampled(architectures(), one_in(4)))
def test_every_format_gives_the_models_logits_without_attune(text: str, checked: dict[str, list[Check]]) -> None:
    differences = {one.format: one.difference for one in checked[text]}
    whole = text == architectures()[0]
    assert set(differences) == (set(FORMATS) if whole else set(FORMATS) - set(TRACED))
    assert differences.pop("onnx", 0.0) <= 1e-5
    assert set(differences.values()) == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize("names", sampled(galleries(), no_one), ids=lambda names: f"{names[0]} to {names[-1]}")
def test_every_type_is_the_same_when_traced(names: list[str], checked: dict[str, list[Check]]) -> None:
    differences = {one.format: one.difference for one in checked["+".join(names)]}
    assert differences.pop("onnx") <= 1e-5
    assert differences == {"torch-export": 0.0}


def test_the_written_code_is_one_file_that_names_nothing_of_attune() -> None:
    for text in architectures():
        tree = ast.parse(model_source(make_subject(text)))
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        packages = {module.partition(".")[0] for module in modules}
        assert packages <= {"__future__", "torch", "timm", "safetensors", "math", "collections"} | {
            "dataclasses",
            "functools",
            "pathlib",
            "typing",
        }
        defined = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        assert len(defined) == len(set(defined))


@pytest.mark.parametrize("native", ["keep", "replace", "remove"])
def test_built_in_attention_is_kept_or_taken_out_as_in_the_search(native: str, tmp_path: Path) -> None:
    subject = make_subject("mobilenetv3_small_050:cbam,none,none,none", native)
    source = model_source(subject).replace(subject.model_name, f"{subject.model_name}_{native}")
    assert ("clear(model," in source) == (native != "keep")
    (tmp_path / "exported.py").write_text(source)
    wanted = trained(subject)
    save_file(wanted.state_dict(), tmp_path / WEIGHTS)
    found = load_source("exported", str(tmp_path / "exported.py")).load()
    x_BCHW = probe_input(subject, 2)
    assert torch.equal(logits(found, x_BCHW), logits(wanted, x_BCHW))


def test_a_file_that_is_not_the_model_is_found_out(tmp_path: Path) -> None:
    written = write("attune_tiny:se,none,none", tmp_path / "out", ["python"])
    state = load_file(tmp_path / "out" / WEIGHTS)
    state["fc.bias"] += 1e-3
    save_file(state, tmp_path / "out" / WEIGHTS)
    with pytest.raises(ExportError, match="python differ by"):
        check([written])


def test_an_architecture_is_exported_with_its_card_and_read_back(tmp_path: Path) -> None:
    result = export("test_resnet:se,none,none,eca", to=tmp_path / "out", formats=["spec", "safetensors", "hf"])
    assert [one.difference for one in result.checks] == [0.0] * 3
    assert {path.name for path in result.files} >= {SPEC, WEIGHTS, "config.json", CARD, "model.safetensors"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (tmp_path / "out" / f"{config['architecture']}.py").exists()
    card = (tmp_path / "out" / CARD).read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "test_resnet:se-r16@slot" in card
    assert load_exported(tmp_path / "out").state_dict().keys() == load_file(tmp_path / "out" / WEIGHTS).keys()


@pytest.mark.matrix
@pytest.mark.slow
def test_retrained_weights_are_new_and_trained_once(known_run: Path, tmp_path: Path) -> None:
    chosen = load(known_run).front.iloc[0]["architecture"]
    first = export(str(known_run), to=tmp_path / "a", pick=chosen, formats=["safetensors"], retrain=True, epochs=1)
    (weights,) = (known_run / "weights").glob("*-e1.safetensors")
    written = weights.stat().st_mtime_ns
    again = export(str(known_run), to=tmp_path / "b", pick=chosen, formats=["safetensors"], retrain=True, epochs=1)
    assert weights.stat().st_mtime_ns == written
    assert first.score == again.score
    kept, exported = load_file(weights), load_file(tmp_path / "a" / WEIGHTS)
    assert all(torch.equal(kept[name], exported[name]) for name in exported)
    evaluator = create_trainer(load(known_run).config)
    model = evaluator.build(Architecture.parse(chosen))
    model.load_state_dict(exported)
    val = evaluator.task.batches("val", batch_size=256, device=torch.device("cpu"))
    found = validate(model, val, evaluator.task, torch.device("cpu"), "off")
    assert found["accuracy"] == pytest.approx(first.score)  # the card says what the exported weights do


def test_unknown_formats_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'onxx'.*did you mean 'onnx'"):
        export("attune_tiny:none,none,none", to=tmp_path, formats=["onxx"])
    with pytest.raises(UsageError, match=SPEC):
        load_exported(tmp_path)
    with pytest.raises(UsageError, match="--retrain"):
        export("attune_tiny:none,none,none", to=tmp_path, retrain=True)
