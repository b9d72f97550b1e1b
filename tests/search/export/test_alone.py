"""`show`: each attention type as a file that runs alone and passes its own test."""

import pytest

from search.export.alone import attention_source
from spaces.attention import list_attentions
from spaces.errors import UsageError


@pytest.mark.parametrize("placement", [*list_attentions(), "eca+cbam-k7-parallel", "gam-r4-k7-g4"])
def test_every_type_stands_alone_and_passes_its_own_test(placement: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = attention_source(placement)
    assert not any(
        f"import {package}" in source or f"from {package}" in source for package in ("spaces", "attune", "timm")
    )
    exec(compile(source, placement, "exec"), {"__name__": "__main__"})
    assert "gradients are finite" in capsys.readouterr().out


def test_the_file_says_what_it_is() -> None:
    source = attention_source("cbam-r8", channels=32)
    assert source.startswith('"""cbam-r8-k7-series: CBAM, Woo et al. 2018, arXiv:1807.06521\n')
    assert "CbamChannel(channels=32, hidden=4)" in source


@pytest.mark.parametrize(
    ("text", "words"), [("none", "no attention"), ("cbm", "did you mean 'cbam'"), ("se-k3", "no gene k")]
)
def test_what_is_no_type_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        attention_source(text)
