"""Descriptions of all backbones: found once, and kept."""

from spaces import catalogue


def test_descriptions_are_found_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path))
    some = ["attune_tiny", "nasnetalarge", "resnet18"]
    monkeypatch.setattr(catalogue, "list_backbones", lambda: some)
    rows = catalogue.describe_backbones()
    assert [row["name"] for row in rows] == ["attune_tiny", "resnet18"]  # the other has no stages
    assert rows[1]["stages"][0]["channels"] == 64
    assert rows[1]["stages"][0]["resolution"] == 56
    assert rows[1]["stages"][0]["sites"]["slot"] == {"count": 2, "channels": [64, 64]}
    monkeypatch.setattr(catalogue, "ProcessPoolExecutor", None)  # whoever describes again fails
    assert catalogue.describe_backbones() == rows
