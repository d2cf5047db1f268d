"""DaGAN's own depth networks, from the files ``encoder.pth`` and ``depth.pth`` that its authors published."""

from pathlib import Path

from head3d.baselines.dagan.depth import DepthDecoder, DepthEncoder
from head3d.baselines.dagan.method import TABLE
from head3d.baselines.official import load_official
from head3d.checkpoints import read_checkpoint


def load_depth(encoder: DepthEncoder, decoder: DepthDecoder, encoder_file: Path, decoder_file: Path) -> None:
    """Fill both networks from their files.

    Raises:
        UserError: a file can't be read, or a tensor is missing, left over or of another shape.
    """
    for name, network, file in (("encoder", encoder, encoder_file), ("decoder", decoder, decoder_file)):
        load_official({f"depth_{name}": network}, {f"depth_{name}": read_checkpoint(file)}, TABLE, file.name)


def check(path: Path, part: str, layers: str) -> None:
    """Whether a file is the ``part`` (encoder or decoder) of the depth of so many ``layers``. Raises UserError."""
    encoder = DepthEncoder(int(layers))
    network = encoder if part == "encoder" else DepthDecoder(encoder.channels)
    load_official({f"depth_{part}": network}, {f"depth_{part}": read_checkpoint(path)}, TABLE, str(path))
