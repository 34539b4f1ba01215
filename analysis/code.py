"""Whether all runs of a study were made by the same code, as far as their results depend on it."""

import json
from collections import defaultdict
from collections.abc import Iterator

from analysis.records import Study
from ledger.source_code import files_text, unpacked


def code_notes(study: Study) -> Iterator[str]:
    """Nothing where they were, and where no run says by which code it was made, as those of older versions."""
    made = [size.runs[size.runs["status"] != "missing"]["code"] for size in study.sizes]
    hashes = defaultdict[str, set[str]](set)
    for text in {text for codes in made for text in codes.dropna()}:
        for file, hashed in unpacked(json.loads(text)).items():
            hashes[file].add(hashed)
    if files := sorted(file for file, found in hashes.items() if len(found) > 1):
        yield (
            f"Not all runs were made by the same code: {files_text(files)} changed in between, so a difference may be "
            "that of the code. `make sweep STALE=again` makes those again that the present code did not make."
        )
    num_runs, num_known = sum(map(len, made)), sum(int(codes.notna().sum()) for codes in made)
    if 0 < num_known < num_runs:
        yield f"Of {num_runs - num_known:,} of {num_runs:,} runs is not known what code made them."
