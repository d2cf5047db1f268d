"""Stage ``parse``: soft head masks of all clips of a shard with the real face parser."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from head3d import tracking
from head3d.compute import Compute
from head3d.data.store import MASKED, NpyWriter, open_array, pixels_digest, read_records
from head3d.errors import UserError
from head3d.files import replacing
from head3d.models.head_masks import FaceParser, head_masks

if TYPE_CHECKING:
    from head3d.params import Params


def run(params: "Params", shard: int) -> None:
    """Stage ``parse``, one shard: ``data/masks/shard-K.npy`` uint8 ``(n, T, H, W)``, 255 = head.

    ``data/masks/shard-K.sha256`` says which clips they are of.
    """
    source = Path("data/clips") / f"shard-{shard}" / "frames.npy"
    first = f"run `head3d crop --shard {shard}` first"
    clips, landmarks = open_array(source, first), open_array(source.with_name("landmarks.npy"), first)
    if len(clips) != len(landmarks):
        raise UserError(f"{source}: {len(clips)} clips, but landmarks of {len(landmarks)}", fix=first)
    records = read_records(source.with_name("clips.csv"), first)
    target = Path("data/masks") / f"shard-{shard}.npy"
    target.with_suffix(MASKED).unlink(missing_ok=True)  # of masks that are about to be replaced
    settings, shares = params.parse, []
    parser = FaceParser(settings.input_size, Compute.resolve(params.device, params.precision))
    with tracking.run(stage="parse", params=params, instance=f"shard-{shard}") as tracked:
        with replacing(target) as file:
            writer = NpyWriter(file, clips.shape[1:4], np.uint8)
            for clip, points in zip(
                tqdm(clips, desc=f"parse {shard}", unit="clip", disable=None), landmarks, strict=True
            ):
                masks = head_masks(clip, parser, points, rim=settings.rim, batch_size=settings.batch_size)
                writer.append(masks)
                shares.append(masks.mean() / 255)
            writer.close()
        with replacing(target.with_suffix(MASKED)) as file:
            file.write_text(f"{pixels_digest(records)}\n")
        if shares:
            tracked.metrics({"head_share": float(np.mean(shares)), "clips": len(shares)}, step=0)
