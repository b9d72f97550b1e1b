"""The report of a run that grows, over real HTTP on this machine."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from search.analysis.watch import HOST, make_server
from search.store import Store
from spaces.errors import UsageError


@contextmanager
def serving(folder: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    server = make_server(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def get(path: str, **headers: str) -> tuple[int, str]:
        connection = HTTPConnection(HOST, server.server_address[1], timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    try:
        yield get
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_finished_appears(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    folder = run_maker(tmp_path / "run", 9)
    journal = folder / "evaluations.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("")
    with serving(folder) as get:
        assert "Nothing is finished yet" in get("/")[1]
        before = json.loads(get("/state")[1])
        journal.write_text("".join(lines[:5]))
        assert json.loads(get("/state")[1]) != before
        text = get("/")[1]
        assert "5 evaluations of the search" in text
        assert text == get("/")[1]  # not made anew while nothing changes
        with Store(folder) as store:
            last = next(iter(store))
            store.add(replace(last, seed=77))
        assert "6 evaluations of the search" in get("/")[1]
        assert get("/config.yaml")[0] == 404
        assert get("/", Host="elsewhere.example:80")[0] == 403


def test_a_taken_port_and_a_folder_that_is_no_run_are_named(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    folder = run_maker(tmp_path / "run", 2)
    with make_server(folder) as server, pytest.raises(UsageError, match="--port"):
        make_server(folder, server.server_address[1])
    with pytest.raises(UsageError, match="not a run directory"):
        make_server(tmp_path)
