"""The report of a run that still searches, served to this machine alone: what is finished appears, and a choice stays."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from search.analysis.report import report_page
from search.results import load
from spaces.errors import UsageError

HOST = "127.0.0.1"
EVERY = 5  # seconds between two questions of the page
_WAITING = (
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>waiting</title><p>Nothing is finished yet.</p>"""
)
# Asks whether more is finished, and then shows the page anew where one was, with the budget that was chosen.
_POLL = """<script>(() => {
const field = document.getElementById("limit"), kept = sessionStorage.getItem("limit");
if (field && kept) { field.value = kept; field.dispatchEvent(new Event("change")); }
const first = "%s";
(function again() { setTimeout(async () => {
  const answer = await fetch("state").catch(() => null);
  if (!answer || !answer.ok || (await answer.json()).state === first) return again();
  if (field && budget) sessionStorage.setItem("limit", budget.text);
  else sessionStorage.removeItem("limit");
  location.reload();
}, %d); })();
})();</script>"""


class Watch:
    """A run's report as it grows; made anew when it is asked for and more is finished."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        load(folder)  # refuses a folder that is no run
        self._lock = threading.Lock()
        self._shown: tuple[str, str] | None = None

    @property
    def state(self) -> str:
        """What changes when anything more is finished."""
        journal = self.folder / "evaluations.jsonl"
        return str(journal.stat().st_size) if journal.exists() else "0"

    def page(self) -> str:
        """The report of what is finished, and a script that asks for more."""
        with self._lock:  # of several readers one waits for the other's
            state = self.state
            if self._shown is None or self._shown[0] != state:
                results = load(self.folder)
                text = _WAITING if results.summary.empty else report_page(results)
                self._shown = state, text + _POLL % (state, 1000 * EVERY)
            return self._shown[1]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, watch: Watch, *arguments: object) -> None:
        self.watch = watch
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in (HOST, "localhost"):  # a page from elsewhere whose name was made to lead here
            self.send_error(HTTPStatus.FORBIDDEN, "this report is for this machine alone")
        elif self.path == "/state":
            self._send(json.dumps({"state": self.watch.state}), "application/json")
        elif self.path == "/":
            try:
                self._send(self.watch.page(), "text/html")
            except UsageError as error:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the run cannot be read", str(error))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        with suppress(ConnectionError):  # who asked has closed the page
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a line for every question would bury all else."""


def make_server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a run's report on this machine's own address; port 0 takes any that is free.

    Raises UsageError for a folder that is no run and for a port that is taken.
    """
    handler = partial(_Handler, Watch(folder))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror or error}; valid: a free one, or 0 for any") from None
