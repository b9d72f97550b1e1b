"""The verbs about Attune itself: what it finds on this machine, and the form of its configurations."""

from __future__ import annotations

import json
from typing import Any

import typer

from attune.cli.app import Json, app, version_line


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what Attune finds here (versions, devices, Ray, folders, extras): for a report of a mistake. 1: something fails."""
    from attune.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps({"version": version_line(), "findings": [one.to_dict() for one in findings]}))
    else:
        print(version_line())
        for one in findings:
            print(f"{'ok  ' if one.fine else 'FAIL'}  {one.what:<12}{one.found}")
    if not all(one.fine for one in findings):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of configurations, by which editors complete and check them."""
    print(json.dumps(config_schema(), indent=1))


def config_schema() -> dict[str, Any]:
    """The schema of ``Config``; what is chosen by name (a task, an evaluator, a scheduler) is any of its sections."""
    from evaluators.base import EVALUATORS
    from evaluators.brought import BroughtEvaluator
    from evaluators.tasks.base import TASKS, BroughtTask
    from evaluators.tasks.shared import HeadConfig
    from search.config import Config
    from search.schedulers.base import SCHEDULERS, BroughtScheduler

    made: dict[str, Any] = Config.model_json_schema()
    definitions = made["$defs"]
    chosen = (
        (made["properties"], "task", TASKS, BroughtTask),
        (made["properties"], "evaluator", EVALUATORS, BroughtEvaluator),
        (definitions["SearchConfig"]["properties"], "scheduler", SCHEDULERS, BroughtScheduler),
    )
    for properties, key, registry, brought in chosen:
        names = [name for name, _ in registry.items()]
        sections = []
        for section in [*dict.fromkeys(section for _, section in registry.items()), brought]:
            own = section.model_json_schema()
            definitions |= own.pop("$defs", {})
            if issubclass(section, HeadConfig):  # its other keys are options of the head
                own["additionalProperties"] = True
            if section is brought:
                own["properties"]["name"]["pattern"] = "^module:"
            definitions[section.__name__] = own
            sections.append({"$ref": f"#/$defs/{section.__name__}"})
        by_name = {"type": "string", "description": f"one of {', '.join(names)}, or module:package.file:name"}
        properties[key] = {"anyOf": [by_name, *sections]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "A configuration of Attune"}
