"""What comes from strangers writes nowhere else, and what goes to strangers holds neither secrets nor code of theirs."""

import ast
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from search.export.calls import literal
from search.export.card import model_card
from search.export.placing import MANIFEST, place, staging
from search.export.source import model_source
from search.export.subject import Subject, make_spec
from search.mirror import fetch
from search.public import masked, portable
from search.strict_yaml import load_yaml
from spaces import Architecture
from spaces.errors import UsageError, cut

HOSTILE = [
    '"""',
    "'''",
    "\\",
    "\n",
    "\u2028",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "__import__('os')",
    "\u202e",
    "😀",
    "\0",
    "a|b`<i>",
]

BELOW = ["1", *(f"*{name}" for name in "abcdef")]
TENS = [f"{name}: &{name} [{', '.join([below] * 10)}]" for name, below in zip("abcdefg", BELOW, strict=True)]
BOMB = "\n".join(TENS).encode()  # seven lines that stand for ten million values


def zipped(path: Path, names: list[str], link: str = "") -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run/config.yaml", "name: run")
        for name in names:
            archive.writestr(name, "theirs")
        if link:
            about = zipfile.ZipInfo(link)
            about.external_attr = 0o120777 << 16
            archive.writestr(about, "/etc")
    return f"zip://run::{path}"


def tarred(path: Path, names: list[str], link: str = "") -> str:
    with tarfile.open(path, "w") as archive:
        for name in ["run/config.yaml", *names]:
            about = tarfile.TarInfo(name)
            about.size = 6
            archive.addfile(about, io.BytesIO(b"theirs"))
        if link:
            about = tarfile.TarInfo(link)
            about.type, about.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(about)
    return f"tar://run::{path}"


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("names", "link"),
    [(["run/../../out"], ""), (["run/a/../../../out"], ""), (["run/..\\..\\out"], ""), ([], "run/link")],
)
def test_a_fetched_run_stays_in_its_folder(make: Any, names: list[str], link: str, tmp_path: Path) -> None:
    url = make(tmp_path / "archive", names, link)
    inside = tmp_path / "runs" / "run"
    with pytest.raises(UsageError, match=r"outside of the run|is a link|holds no run"):
        fetch(url, inside)
    assert {path.name for path in tmp_path.rglob("*")} <= {"archive", "runs", "run"}


def test_a_link_in_a_shared_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "config.yaml").write_text("name: run")
    (tmp_path / "shared" / "key").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="'/key', which is a link"):
        fetch(f"file://{tmp_path}/shared", tmp_path / "here")
    (tmp_path / "shared" / "key").unlink()
    fetch(f"file://{tmp_path}/shared", tmp_path / "here")
    assert (tmp_path / "here" / "config.yaml").read_text() == "name: run"


def put(folder: Path, content: str, force: bool = False) -> None:
    with staging(folder) as inside:
        (inside / "README.md").write_text(content)
        place([inside / "README.md"], inside, folder, force=force)


def test_an_export_replaces_its_own_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    put(folder, "first")
    put(folder, "second")
    (folder / "README.md").write_text("mine now")
    with pytest.raises(UsageError, match=r"README.md was changed after it was exported; .*--force"):
        put(folder, "third")
    assert (folder / "README.md").read_text() == "mine now"
    put(folder, "third", force=True)
    (folder / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"README.md was not written by an export"):
        put(folder, "fourth")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md"]
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "victim")
    put(folder, "fifth", force=True)
    assert not (tmp_path / "victim").exists()
    with pytest.raises(UsageError, match="cannot be written"):
        put(folder / "README.md" / "below", "sixth")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    for value in (text, (text, [text, {text: 1.5}]), [f"x{text}y"]):
        source = literal(value)
        assert ast.literal_eval(source) == value
        assert len(source.splitlines()) == 1
    arch = Architecture.parse("attune_tiny:se,none,none")
    about = {"num_classes": 2, "in_chans": 1, "image_size": 16, "mean": [0.5], "std": [0.2]}
    subject = Subject(arch, make_spec(arch, **about, class_names=[text, "b"]))
    tree = ast.parse(model_source(subject))
    named = next(node for node in tree.body if isinstance(node, ast.Assign) and "CLASS_NAMES" in ast.unparse(node))
    assert ast.literal_eval(named.value) == (text, "b")
    card = model_card(subject)
    assert "license:" not in card
    assert "not stated" in card
    for name in ("num_classes", "in_chans", "mean", "std"):
        with pytest.raises(UsageError, match=name):
            make_spec(arch, **{**about, name: text})


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        ("s3://me:hunter2@host/bucket", "hunter2", "host/bucket"),
        ("https://host/x?token=abcdef&page=2", "abcdef", "page=2"),
        ("https://host/x?X-Amz-Signature=abcdef12", "abcdef12", "https://host/x"),
        ("key AKIAABCDEFGHIJKLMNOP is no use", "AKIAABCDEFGHIJKLMNOP", "is no use"),
        ({"storage": {"api_key": "abcdef"}, "name": "birds"}, "abcdef", "birds"),
    ],
)
def test_secrets_are_hidden(text: Any, secret: str, kept: str) -> None:
    assert secret not in str(masked(text))
    assert kept in str(masked(text))


def test_local_paths_are_left_out_of_what_is_given_away() -> None:
    found = portable({"name": "folder:/home/me/birds", "weights": "~/w/a.pt", "split": "train/val", "other": "../x/y"})
    assert found == {"name": "folder:birds", "weights": "a.pt", "split": "train/val", "other": "y"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: 1\na: 2", "'a' is given twice, in lines 1 and 2"),
        (b"a: {b: 1, b: 2}", "'b' is given twice"),
        (b"a: \xff", "not UTF-8"),
        (b"a: &x [*x]", "contains itself"),
        (b"a: 010", "another number"),
        (b"a: 1:30", "another number"),
        (b"a: !!set {b}", "tag"),
        (b"? [1]\n: 2", "list or a mapping"),
        (b"a: " + b"9" * 5000, "digits"),
        (b"a: 2024-02-30", "day is out of range"),
        (b"[" * 5000, "nested too deeply|not YAML"),
        (BOMB, "more than"),
    ],
)
def test_yaml_that_means_something_else_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load_yaml(text, "it")
    assert "\n" not in str(caught.value)


def test_yaml_with_a_mark_merges_and_aliases_is_read() -> None:
    text = "\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, 1_000, 0.5, 0]"
    assert load_yaml(text.encode(), "it") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": [{"x": 1, "y": 2}, 1000, 0.5, 0],
    }


@pytest.mark.parametrize("length", range(20, 60))
def test_a_message_that_is_cut_shows_no_part_of_a_password(length: int) -> None:
    url = f"https://me:{'correct-horse-battery'}@example.org/{'x' * 40}"
    assert not {"correct", "horse", "battery"} & set(re.findall(r"[a-z]+", cut(f"no data at {url}", length)))
    assert "horse" not in str(UsageError(f"no data at {url} {'y ' * 2000}"))
