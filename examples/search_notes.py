"""Search a folder of text files by words; the database follows the files.

python search_notes.py FOLDER WORDS …       # writes what changed, then searches
python search_notes.py                      # a demonstration in a temporary folder
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import vectordb
from vectordb import Datetime, Keyword, Schema, Sparse, Text

SCHEMA = Schema(
    vectors={"words": Sparse(encoder="bm25", source="body")},
    attributes={"body": Text(), "kind": Keyword(), "changed": Datetime()},
)
KINDS = {".txt", ".md", ".rst"}


def synchronise(notes, folder):
    """Write the files that changed and delete the points of those that are gone; return how many of each."""
    known = {point.id: point.attributes["changed"] for point in notes.iterate(with_attributes=["changed"])}
    found, changed = set(), []
    for path in folder.rglob("*"):
        if path.suffix not in KINDS or not path.is_file():
            continue
        name, moment = path.relative_to(folder).as_posix(), datetime.fromtimestamp(path.stat().st_mtime, UTC)
        found.add(name)
        if known.get(name) != moment:
            body = path.read_text(encoding="utf-8", errors="replace")
            changed.append({"id": name, "attributes": {"body": body, "kind": path.suffix, "changed": moment}})
    notes.bulk(changed)
    gone = [name for name in known if name not in found]
    notes.delete(gone)
    return len(changed), len(gone)


def main():
    parser = argparse.ArgumentParser(description="Search a folder of text files.")
    parser.add_argument("folder", nargs="?", type=Path, help="with .txt, .md and .rst files")
    parser.add_argument("words", nargs="*", help="what to look for")
    parser.add_argument("--limit", type=int, default=5, help="hits (5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, words = arguments.folder, " ".join(arguments.words)
        if folder is None:
            folder, words = Path(scratch, "notes"), "water tomatoes"
            folder.mkdir()
            (folder / "garden.md").write_text("Water the tomatoes every morning.", encoding="utf-8")
            (folder / "kitchen.md").write_text("Simmer the sauce for forty minutes.", encoding="utf-8")
        with vectordb.open(Path(scratch, "db") if arguments.folder is None else folder / ".search") as db:
            notes = db.create_collection("notes", SCHEMA, exist_ok=True)
            print("{} written, {} deleted".format(*synchronise(notes, folder)))
            for hit in notes.search(text=words, limit=arguments.limit) if words else ():
                print(f"{hit.score:6.2f}  {hit.id}  {hit.attributes['body'].strip()[:70]!r}")


if __name__ == "__main__":
    main()
