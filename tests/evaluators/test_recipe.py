"""Recipes: presets, and what is refused."""

import pytest

from evaluators.recipe import Recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [({"preset": "shrot"}, "unknown preset 'shrot'.*short"), ({"lr": -1}, "lr"), ({"epoch": 3}, "epoch")],
)
def test_wrong_recipes(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(values)


def test_presets_fill_what_is_not_set() -> None:
    recipe = Recipe.model_validate({"preset": "coordinate_attention", "lr": 0.2})
    assert (recipe.lr, recipe.batch_size, recipe.weight_decay, recipe.epochs) == (0.2, 256, 4e-5, 200)
    assert recipe.digest != Recipe().digest
    assert Recipe(epochs=3).digest == Recipe(epochs=4).digest
