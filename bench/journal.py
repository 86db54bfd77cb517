"""The journal of a run (JSON lines), from which a stopped run continues, and the results that are computed from it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import checks, metrics

FORMAT = 1


class Journal:
    """``journal.jsonl`` in a run's folder. Each fact has a key; later facts with a known key are ignored."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "journal.jsonl"
        self.facts: dict[str, dict] = {}
        whole = 0
        if self.path.exists():
            raw = self.path.read_bytes()
            for line in raw.splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # an incomplete line: the run was killed while writing it
                fact = json.loads(line)
                self.facts.setdefault(fact["key"], fact)
                whole += len(line)
        self._file = open(self.path, "ab")
        self._file.truncate(whole)

    def __contains__(self, key: str) -> bool:
        return key in self.facts

    def add(self, key: str, fact: dict) -> None:
        if key not in self.facts:
            self.facts[key] = {"key": key, **fact}
            self._file.write(json.dumps(self.facts[key]).encode() + b"\n")
            self._file.flush()

    def of(self, kind: str) -> list[dict]:
        return [fact for fact in self.facts.values() if fact["fact"] == kind]

    def close(self) -> None:
        self._file.close()


def key_of(*parts: Any) -> str:
    return "|".join(part if isinstance(part, str) else json.dumps(part, sort_keys=True) for part in parts)


def results(journal: Journal, about: dict) -> dict:
    """The results of a run: ``about`` (environment, plan), systems, data sets, operations, loads, and measurements with raw figures."""
    groups: dict[str, list[dict]] = {}
    for fact in journal.of("pass"):
        names = ("suite", "dataset", "stage", "cell", "system", "setting", "exact")
        groups.setdefault(key_of(*(fact[name] for name in names)), []).append(fact)
    whole = {"format": FORMAT, **about}
    parts = {"datasets": "dataset", "systems": "system", "cells": "cell", "operations": "operation", "loads": "load"}
    for name, kind in (parts | {"exact_modes": "exact mode"}).items():
        whole[name] = [_bare(fact) for fact in journal.of(kind)]
    whole["measurements"] = [_measurement(passes) for passes in groups.values()]
    whole["figures"] = checks.figures(journal.of("probe"))
    whole["checks"] = checks.checked(whole["figures"])
    whole["problems"] = [_bare(fact) for fact in journal.of("problem")]
    return whole


def _bare(fact: dict) -> dict:
    return {name: value for name, value in fact.items() if name not in ("key", "fact")}


def _measurement(passes: list[dict]) -> dict:
    """Summary of the repeats of one setting in one cell. Recall is computed over all timed requests."""
    passes = sorted(passes, key=lambda fact: fact["repeat"])
    first = passes[0]
    same = {name: first[name] for name in ("suite", "dataset", "stage", "cell", "system", "setting", "exact")}
    recall = [value for fact in passes for value in fact["recall"]]
    # The confidence interval is over queries. Repeats ask the same queries, so they add no information about other queries.
    by_query = [sum(values) / len(values) for values in zip(*(fact["recall"] for fact in passes))]
    low, high = metrics.interval(by_query)
    cores = [fact["cores"] for fact in passes if fact["cores"] is not None]
    return same | {
        "requests": len(recall),
        "queries": len(by_query),
        "recall": metrics.recalls(recall) | {"low": low, "high": high},
        "latency": metrics.latencies([fact["times_ns"] for fact in passes]),
        "under_returned": sum(fact["under"] for fact in passes),
        "wrong": sum(fact["wrong"] for fact in passes),
        "cores": sum(cores) / len(cores) if cores else None,
        "quality": first.get("quality") or {},
        "raw": [{name: fact[name] for name in ("times_ns", "recall", "returned")} for fact in passes],
    }


def write(results: dict, path: Path) -> None:
    """Write the results as JSON, gzipped if the name ends in .gz. The file is replaced atomically."""
    scratch = path.with_name(f".{path.name}.part")
    text = json.dumps(results, ensure_ascii=False)
    with gzip.open(scratch, "wt", encoding="utf-8") if path.suffix == ".gz" else open(scratch, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(scratch, path)


def read(path: Path) -> dict:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        results = json.load(file)
    if results.get("format") != FORMAT:
        raise ValueError(f"{path} has results of format {results.get('format')}; this version reads format {FORMAT}")
    return results


def merged(runs: list[dict]) -> dict:
    """Merge the results of several runs. The environment is the first run's; if two runs measured the same thing, the later one counts."""
    if len(runs) == 1:
        return runs[0]
    whole = dict(runs[0], ended=runs[-1]["ended"])
    keys = {
        "datasets": ("suite", "name"),
        "systems": ("name",),
        "cells": ("suite", "dataset", "stage", "cell"),
        "operations": ("suite", "dataset", "stage", "system", "op"),
        "loads": ("suite", "dataset", "stage", "system", "load", "repeat"),
        "exact_modes": ("suite", "dataset", "system"),
        "measurements": ("suite", "dataset", "stage", "cell", "system", "setting"),
        "problems": ("suite", "dataset", "system", "where"),
        "figures": ("suite", "dataset", "cell", "system", "what"),
        "checks": ("suite", "dataset", "what"),
    }
    for part, names in keys.items():
        kept: dict[str, dict] = {}
        for run in runs:
            kept |= {key_of(*(one[name] for name in names)): one for one in run.get(part, ())}
        whole[part] = list(kept.values())
    whole["left"] = [text for run in runs for text in run.get("left", ())]
    whole["floors_missed"] = [text for run in runs for text in run.get("floors_missed", ())]
    return whole


def floors_missed(results: dict, floors: Iterable[tuple[str, str | None, float]]) -> list[str]:
    """The reasons why a run fails, one text each. floors: (system, suite or None for all suites, recall).

    A floor holds if, in every cell, some setting has at least this mean recall. Independent of the floors, exact searches of vectordb must
    have recall 1.000 and no short or wrong answer.
    """
    missed = []
    for system, suite, least in floors:
        best: dict[tuple, float] = {}
        for one in results["measurements"]:
            if one["system"] == system and suite in (None, one["suite"]):
                place = (one["suite"], one["dataset"], one["stage"], one["cell"])
                best[place] = max(best.get(place, 0.0), one["recall"]["mean"])
        if not best:
            missed.append(f"{system}: nothing was measured{f' in {suite}' if suite else ''}, so the floor of {least:g} was not checked")
        for place, value in best.items():
            if value < least:
                missed.append(f"{system}: recall {value:.4f} is below the floor of {least:g} in {' · '.join(place)}")
    ours = {one["name"] for one in results["systems"] if one["kind"] == "ours"}
    for one in results["measurements"]:
        if one["system"] in ours and one["exact"] and (one["recall"]["min"] < 1 or one["wrong"] or one["under_returned"]):
            place = " · ".join((one["suite"], one["dataset"], one["stage"], one["cell"]))
            why = f"recall {one['recall']['mean']:.4f}, {one['under_returned']} short answers, {one['wrong']} wrong rows"
            missed.append(f"{one['system']}: its exact mode is not exact in {place}: {why}")
    return list(dict.fromkeys(missed))
