"""Measures of the transfer between people: every method's video of every pair, by docs/metrics.md."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from head3d import tracking
from head3d.compute import Compute
from head3d.data.store import ClipStore, write_rows
from head3d.evaluation import compared, cross, measures, pairs
from head3d.evaluation.observe import Observed, observe
from head3d.models.head_masks import FaceParser, head_masks
from head3d.parallel import threads_each
from head3d.references import subject_half

if TYPE_CHECKING:
    from head3d.params import Params

COLUMNS = (*compared.ABOUT, *measures.MEASURES)
PARSED_EVERY = 4  # face parsing costs ten times the rest: every fourth frame is looked at for ghosts
Row = dict[str, object]


def measure(params: "Params", test_set: str, store: ClipStore) -> list[Row]:
    """A row for every pair and method, and one for the driving video itself, which is the driver through and through.

    Raises:
        UserError: a video of a pair is not there.
    """
    known = {record.clip_id: record for record in store.records(test_set)}
    folder = pairs.folder_of(test_set, store.root)
    compute = Compute.resolve(params.device, params.precision)
    device, parser = compute.device, FaceParser(measures.PARSED_PX, compute)

    @lru_cache(maxsize=256)  # clips come in several pairs
    def seen(clip: str, whole: bool) -> Observed:
        frames = store.frames(known[clip])
        return observe(frames if whole else frames[: subject_half(len(frames))], device)

    def made(pair: str, out: str) -> tuple[Observed, float]:
        """What is seen of a method's video of a pair, and its ghosts."""
        frames, rendered = cross.load(folder / out, pair)
        result = observe(frames, device)
        if rendered is None:
            return result, float("nan")
        some = slice(0, None, PARSED_EVERY)
        heads = head_masks(
            frames[some], parser, result.landmarks[some], rim=measures.RIM, batch_size=params.parse.batch_size
        )
        return result, measures.ghosts(heads, rendered[some])

    rows: list[Row] = []
    chosen, methods = pairs.read(folder / "pairs.csv", known), compared.methods_of(params.baselines)
    with ThreadPoolExecutor(threads_each(), "videos") as pool:  # dlib's detector and torch let others run
        for pair in tqdm(chosen, desc=f"measures on {test_set}", unit="pair", disable=None):
            results = pool.map(partial(made, pair.pair), methods)
            person = measures.mean_person(seen(pair.subject_clip, False))
            driving = seen(pair.driving_clip, True)
            about = {"dataset": test_set, "pair": pair.pair}
            about |= {"subject_clip": pair.subject_clip, "driving_clip": pair.driving_clip}
            shown = [("driving", (driving, float("nan"))), *zip(methods.values(), results, strict=True)]
            for name, (result, ghosts) in shown:
                row: Row = {**about, "method": name, "n_frames": len(result), "n_found": int(result.found.sum())}
                rows.append(row | measures.motion_measures(result, driving, person) | {measures.GHOSTS: ghosts})
    return rows


def run(params: "Params", test_set: str) -> None:
    """Measure the transfer between people on a test set; writes metrics/cross/SET.csv."""
    store = ClipStore()
    with tracking.run(stage="evaluate_cross", params=params, instance=test_set) as tracked:
        tracked.dataset(test_set, store.digest, len(store.records(test_set)))
        rows = measure(params, test_set, store)
        write_rows(Path("metrics/cross") / f"{test_set}.csv", COLUMNS, map(measures.texts_of, rows))
        for name in dict.fromkeys(str(row["method"]) for row in rows):
            own = [row for row in rows if row["method"] == name]
            for key in measures.MEASURES:
                values = [float(str(row[key])) for row in own]
                known = [value for value in values if value == value]
                if known:
                    tracked.metrics({f"{name}/{key}": sum(known) / len(known)})
