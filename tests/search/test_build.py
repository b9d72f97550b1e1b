"""From a configuration to objects."""

from pathlib import Path

from search.build import create_evaluator, data_lines
from search.config import validate
from tests.evaluators.data.pictures import picture
from tests.search.conftest import CONFIG


def test_a_search_says_what_it_read(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("Validation", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                file = tmp_path / split / name / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(index).save(file)
    (tmp_path / "train" / ".DS_Store").write_bytes(b"")
    for stem in ("auto", "keep"):
        config = validate({**CONFIG, "data": f"folder:{tmp_path}", "space": {**CONFIG["space"], "stem": stem}}, "test")  # type: ignore[dict-item]
        said = data_lines(create_evaluator(config))
        assert said[1:4] == [
            "classes: 2 (cat 6, dog 6)",
            "images: 12x12 (HxW), 3 channels",
            "splits: train 10, val 2, test 4",
        ]
        assert "skipped: 1 hidden or system files" in said
        assert "assumed: Validation is the test set, since there is no other; validation is cut from train" in said
        assert any(line.startswith("warning: validation has 2 images") for line in said)
