"""Classification as a task: its network, batches, loss and judge; and what else is a task."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from evaluators.data import load_data
from evaluators.outcomes import EvaluationError
from evaluators.recipe import Recipe
from evaluators.tasks import TASKS, Metric, Task, list_tasks
from evaluators.tasks.classification import Accuracy, Classification
from spaces import NetworkSpec
from spaces.errors import UsageError

CPU = torch.device("cpu")


def test_it_is_a_task_and_says_so(clutter: Classification) -> None:
    assert isinstance(clutter, Task)
    assert clutter.metric == Metric("accuracy", "share", higher_is_better=True, by_class="accuracy")
    assert clutter.network == NetworkSpec.classifier(32, num_classes=10, in_chans=1)
    assert clutter.identity == clutter.data.identity
    assert [clutter.count(split) for split in ("train", "val", "test")] == [256, 100, 10]
    assert clutter.describe()["image_size"] == 32
    assert clutter.describe()["class_names"] == list("0123456789")
    (listed,) = [one for one in list_tasks() if one["name"] == "classification"]
    assert (listed["what"], listed["metric"]) == ("One label an image; judged by accuracy.", "accuracy")
    assert "folder:PATH" in listed["data"]
    built = TASKS["classification"].model_validate({"name": "classification"}).build({"name": "digits"}, seed=3)
    assert built.identity == load_data("digits", seed=3).identity


def test_batches_are_augmented_with_a_recipe_and_a_generator_only(clutter: Classification) -> None:
    plain = clutter.batches("train", batch_size=64, device=CPU)
    assert torch.equal(torch.cat([y for _, y in plain]), clutter.data.train.labels_N)
    x_BCHW, y_B = next(iter(clutter.batches("train", batch_size=64, device=CPU, generator=torch.Generator())))
    assert (x_BCHW.shape, y_B.shape) == ((64, 1, 32, 32), (64,))
    mixing = clutter.batches(
        "train", batch_size=64, device=CPU, generator=torch.Generator(), recipe=Recipe(mixup=0.5, crop=0)
    )
    x_BCHW, y_BK = next(iter(mixing))
    assert (x_BCHW.shape, y_BK.shape) == ((64, 1, 32, 32), (64, 10))
    few = [clutter.batches("val", batch_size=64, device=CPU, limit=20) for _ in range(2)]
    (first,), (again,) = ([y for _, y in batches] for batches in few)
    assert torch.equal(first, again)
    assert torch.bincount(first).tolist() == [2] * 10


def test_the_loss_takes_labels_and_shares(clutter: Classification) -> None:
    logits_BK, y_B = torch.randn(6, 10), torch.arange(6)
    shares_BK = torch.eye(10)[y_B]
    for smoothing in (0.0, 0.1):
        expected = cross_entropy(logits_BK, y_B, label_smoothing=smoothing)
        assert torch.allclose(clutter.loss(logits_BK, y_B, smoothing=smoothing), expected)
        assert torch.allclose(clutter.loss(logits_BK, shares_BK, smoothing=smoothing), expected)
    assert clutter.loss(logits_BK, clutter.dummy_target(6)).ndim == 0


def test_the_judge_adds_up_over_batches() -> None:
    logits_BK, y_B = torch.randn(20, 4), torch.randint(4, (20,))
    judge = Accuracy()
    for rows in (slice(0, 7), slice(7, 20)):
        judge.update(logits_BK[rows], y_B[rows])
    found = judge.compute()
    assert found["accuracy"] == pytest.approx(float((logits_BK.argmax(1) == y_B).float().mean()))
    assert found["loss"] == pytest.approx(float(cross_entropy(logits_BK, y_B)), rel=1e-5)
    named = Accuracy("wxyz")
    named.update(logits_BK[y_B != 3], y_B[y_B != 3])
    of_classes = Classification.metric.of_classes(named.compute())
    recall = {name: float((logits_BK[y_B == k].argmax(1) == k).float().mean()) for k, name in enumerate("wxy")}
    assert of_classes == pytest.approx(recall), "and none of a class without images"
    assert Accuracy(["many"] * 101).class_names == ()
    judge.update(torch.full((1, 4), math.nan), y_B[:1])
    with pytest.raises(EvaluationError, match="validation loss became nan"):
        judge.compute()


def test_a_task_has_no_split_that_the_data_lack(tmp_path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", x_train=rng.integers(0, 256, (20, 9, 12), dtype=np.uint8), y_train=np.arange(20) % 4)
    task = Classification(load_data(f"npz:{tmp_path / 'set.npz'}", val_size=4))
    assert task.network.size == (9, 12)
    assert task.describe()["image_size"] == [9, 12]
    with pytest.raises(UsageError, match="no test split"):
        task.batches("test", batch_size=4, device=CPU)
