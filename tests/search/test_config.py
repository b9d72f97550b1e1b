"""Configurations: the shipped ones are valid, and a mistake is one line that names the key and the valid choices."""

from pathlib import Path

import pytest
import yaml

from evaluators.brought import BroughtEvaluator
from evaluators.tasks.base import BroughtTask
from search.build import create_space
from search.config import dump_config, load_config, validate
from search.schedulers.base import BroughtScheduler
from search.schedulers.domination import DominationConfig
from spaces.errors import UsageError

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert create_space(config).size > 1
    assert path.read_text().startswith("# ")


def test_the_resolved_config_is_a_config_of_the_same_meaning() -> None:
    config = load_config(CONFIGS[0], ["search.trials=7", "space.reductions=[2, 8]", "search.budget.flops=1.1x"])
    assert config.search.trials == 7
    assert config.space.reductions == (2, 8)
    assert validate(yaml.safe_load(dump_config(config)), "again") == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.trails=7", ["search.trails", "trials"]),
        ("seach.trials=7", ["seach", "search"]),
        ("search.trials=0", ["search.trials", "1"]),
        ("search.trials=many", ["search.trials", "many", "integer"]),
        ("space.native=away", ["space.native", "keep", "replace", "remove"]),
        ("search.budget.flop=3", ["flop"]),
        ("training.preset=shrt", ["preset", "short"]),
        ("nonsense", ["key=value"]),
        ("search.trials.x=1", ["trials"]),
        ("evaluator=trainin", ["evaluator.name", "training", "supernet", "proxy", "table"]),
        ("evaluator=table", ["table", "file", "parquet"]),
        ("evaluator.sandwich=true", ["sandwich", "training", "start"]),
        ("evaluator={name: proxy, proxy: snipp}", ["snipp", "snip"]),
        ("evaluator.seeds=0", ["evaluator.seeds", "1"]),
        ("evaluator={name: proxy, sandwich: true}", ["unknown key 'evaluator.sandwich'", "name, seeds, proxy"]),
        ("evaluator={name: table, file: [1]}", ["evaluator.file = [1]", "string"]),
        ("evaluator=3", ["evaluator = 3: neither", "training", "table"]),
        ("search.scheduler=asha", ["search.scheduler.name", "'asha'", "valid: none, domination_asha"]),
        (
            "search.scheduler={name: domination_asha, frist: 2}",
            ["search.scheduler.frist", "first, reduction, brackets"],
        ),
        ("search.scheduler={name: none, first: 2}", ["unknown key 'search.scheduler.first'", "valid: name"]),
        (
            "search.scheduler={name: domination_asha, reduction: 1}",
            ["search.scheduler.reduction = 1", "greater than 1"],
        ),
        ("task=detecting", ["task.name", "detecting", "classification"]),
        ("task={name: classification, classes: 3}", ["unknown key 'task.classes'", "valid: name"]),
        ("search.costs=[flop]", ["search.costs", "'flop'", "did you mean 'flops'", "latency"]),
        ("search.budget={params: many}", ["search.budget", "many", "310M"]),
        ("data=null", ["the key 'data' is missing"]),
        ("plugins=[no.such.module]", ["plugins: 'no.such.module'", "No module named"]),
        ("evaluator={seeds: 2}", ["search.scheduler", "domination_asha", "seeds 2"]),
        ("evaluator={name: supernet, calibration: 0}", ["evaluator.calibration", "1"]),
        ("search.trials=[", ["YAML"]),
        ("space.stages={1: [se], '1': [eca]}", ["space.stages", "given twice: 1, '1'"]),
        ("space.stages={1: [se], 01x: [eca]}", ["space.stages", "01x"]),
        ("space.stages={1: []}", ["space.stages.1", "at least 1"]),
        ("space.stages={1: [se, none, se]}", ["space.stages.1", "'se' is given twice"]),
        ("space.attentions=[se, se]", ["space.attentions", "'se' is given twice"]),
        ("space.sites=[block, block/1]", ["space.sites", "'block' is given twice"]),
        ("space.reductions=[4, 16, 4]", ["space.reductions", "4 is given twice"]),
        ("space.kernels=[3, 3]", ["space.kernels", "3 is given twice"]),
    ],
)
def test_a_mistake_is_one_line(override: str, words: list[str]) -> None:
    base = Path("configs/default.yaml")
    with pytest.raises(UsageError) as refusal:
        load_config(Path(__file__).parents[2] / base, ["search.scheduler=domination_asha", override])
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("stage", ["0", "99", "-1"])
def test_a_stage_that_the_backbone_lacks_is_refused(stage: str) -> None:
    config = load_config(CONFIGS[0], [f"space.stages={{{stage}: [none]}}"])
    with pytest.raises(UsageError, match=rf"space\.stages: .* has stages 1 to \d, not {stage}"):
        config.space.build()


def test_a_run_of_an_earlier_version_may_list_something_twice(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIGS[0].read_text())
    config["space"] |= {"attentions": ["none", "se", "se"], "sites": ["slot", "slot"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert load_config(tmp_path / "config.yaml", former=True).space.attentions == ("none", "se")


def test_a_section_is_chosen_by_its_name() -> None:
    by_name = load_config(CONFIGS[0], ["search.scheduler=domination_asha"])
    assert isinstance(by_name.search.scheduler, DominationConfig)
    assert (
        by_name.search.scheduler
        == load_config(CONFIGS[0], ["search.scheduler={name: domination_asha}"]).search.scheduler
    )
    supernet = load_config(CONFIGS[0], ["evaluator.name=supernet", "evaluator.supernet_epochs=7"])
    assert (supernet.evaluator.name, supernet.fidelity) == ("supernet", 7)
    assert load_config(CONFIGS[0], ["evaluator.start=supernet"]).evaluator.name == "training"  # the usual one
    assert validate(yaml.safe_load(dump_config(supernet)), "again") == supernet


def test_what_a_user_brings_is_named_by_its_module() -> None:
    config = load_config(
        CONFIGS[0],
        [
            "evaluator={name: 'module:own.trainer:train', options: {lr: 1}, metric: mIoU, identity: mine}",
            "search.scheduler={name: 'module:own.early:stop', options: {grace: 2}}",
            "search.sampler=module:own.samplers:Mine",
            "task=module:own.tasks:Mine",
            "data=null",
        ],
    )
    assert isinstance(config.evaluator, BroughtEvaluator)
    assert config.evaluator.metric == "mIoU"
    assert isinstance(config.search.scheduler, BroughtScheduler)
    assert config.search.scheduler.options == {"grace": 2}
    assert isinstance(config.task, BroughtTask)
    assert config.brought == ["own.tasks", "own.trainer", "own.samplers", "own.early"]
    assert validate(yaml.safe_load(dump_config(config)), "again") == config


def test_a_missing_file_lists_the_configs() -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        load_config("nope.yaml")
