"""The votes file: one line for each answer, with no name, no address and no time of anybody.

``head3d study results --votes`` writes it from a study's database; the stage ``tables`` makes Table 2 from the
committed ``study/votes.csv``, which holds nothing but its header until there was a study.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from head3d.errors import UserError
from head3d.study.plan import BROKEN, OURS, TRUTH

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("study", "rater", "item", "dataset", "pair", "criterion", "left", "right", "choice", "seconds")
TEXT = ("study", "rater", "item", "dataset", "pair", "criterion", "left", "right", "choice")
MOST_FAILED = 0.25  # a rater who fails more than this share of the attention checks does not count


def read(path: str | Path) -> pd.DataFrame:
    """The votes of a file, checked.

    Raises:
        UserError: no such file, a missing column, a choice that is none, or an answer that comes twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", fix=f"put the line {','.join(COLUMNS)} into it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return parse([text], path)


def none() -> pd.DataFrame:
    """A votes file's table before anybody has voted."""
    return parse([",".join(COLUMNS)], "no votes")


def parse(texts: Iterable[str], where: str | Path) -> pd.DataFrame:
    """The votes of one or several files' texts, checked; ``where`` names them in errors."""
    import pandas as pd

    frames = []
    for text in texts:
        try:
            frame = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            said = " ".join(str(error).split())
            raise UserError(f"{where}: no votes file ({said})", allowed=f"columns {', '.join(COLUMNS)}") from error
        missing = [name for name in COLUMNS if name not in frame.columns]
        if missing:
            raise UserError(f"{where}: no column {', '.join(missing)}", allowed=", ".join(COLUMNS))
        frames.append(frame)
    votes = pd.concat(frames, ignore_index=True)
    wrong = votes[~votes["choice"].isin(["left", "right"])]
    if len(wrong):
        raise UserError(f"{where}: choice is {wrong['choice'].iloc[0]!r}", allowed="left or right")
    twice = votes[votes.duplicated(["study", "rater", "item", "criterion"])]
    if len(twice):
        first = twice.iloc[0]
        raise UserError(
            f"{where}: rater {first['rater']}, item {first['item']} comes twice", fix="keep each study once"
        )
    return votes


def sort_out(votes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The votes that count, and how every rater did on the attention checks.

    Args:
        votes: what :func:`read` returns.

    Returns:
        ``(comparisons, raters)``. Comparisons of raters who count: ``rater`` (unique over studies), ``dataset``,
        ``pair`` (with the digest of the study's videos: pairs of other videos are others), ``criterion``, ``first``
        and ``second`` (Head3D first, then by name), ``win`` (whether ``first`` was
        chosen). Raters: ``rater``, ``votes``, ``checks``, ``failed`` and ``counts``.
    """
    import pandas as pd

    table = votes.assign(rater=votes["study"] + "/" + votes["rater"])
    chosen = table["left"].where(table["choice"] == "left", table["right"])
    check = (table["left"] == BROKEN) | (table["right"] == BROKEN)
    raters = pd.DataFrame({"rater": table["rater"], "check": check, "failed": check & (chosen != TRUTH)})
    raters = raters.groupby("rater", sort=True).agg(
        votes=("check", lambda one: int((~one).sum())), checks=("check", "sum"), failed=("failed", "sum")
    )
    raters["counts"] = raters["failed"] <= MOST_FAILED * raters["checks"]
    table, chosen = table[~check], chosen[~check]
    swap = (table["right"] == OURS) | ((table["left"] != OURS) & (table["right"] < table["left"]))
    out = table[["rater", "dataset", "pair", "criterion"]].assign(
        first=table["right"].where(swap, table["left"]), second=table["left"].where(swap, table["right"])
    )
    out["pair"] = table["study"].str.split("-").str[0] + "/" + out["pair"]
    out["win"] = chosen == out["first"]
    counted = raters.index[raters["counts"]]
    return out[out["rater"].isin(counted)].reset_index(drop=True), raters.reset_index()
