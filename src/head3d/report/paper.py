"""The numbers that the paper prints in its Tables 1, 2 and 3, and nothing else.

They appear only in the ``paper_*`` columns of our tables: other data, more people, longer training, so they stand
beside our numbers for orientation and are never compared with them by code. The paper does not define its
"normalised mean L2"; its values are kept as printed.
"""

# Table 1: self-reconstruction, {data set: {method: (L2, LPIPS)}}.
TABLE1: dict[str, dict[str, tuple[float, float]]] = {
    "VoxCeleb": {
        "fomm": (0.0114, 0.0856),
        "mraa": (0.0108, 0.0830),
        "dagan": (0.0123, 0.0885),
        "facev2v": (0.0186, 0.0994),
        "head3d": (0.0113, 0.0855),
    },
    "FaceForensics": {
        "fomm": (0.0102, 0.0543),
        "mraa": (0.0075, 0.0449),
        "dagan": (0.0106, 0.0490),
        "facev2v": (0.0119, 0.0509),
        "head3d": (0.0079, 0.0442),
    },
}

# Table 2: percent of votes for Head3D over each method, {data set: {method: percent}}; the rest went to the method.
TABLE2: dict[str, dict[str, int]] = {
    "VoxCeleb": {"fomm": 72, "mraa": 57, "dagan": 80, "facev2v": 53},
    "FaceForensics": {"fomm": 68, "mraa": 59, "dagan": 86, "facev2v": 54},
}

# Table 3: ablations, on VoxCeleb only. The paper has no row for the image skip and the matching, which are ours.
TABLE3: dict[str, dict[str, tuple[float, float]]] = {
    "VoxCeleb": {
        "head3d_n1": (0.0117, 0.0873),
        "head3d_n3": (0.0115, 0.0880),
        "head3d_n10": (0.0116, 0.0839),
        "head3d_mean_canonical": (0.0117, 0.0897),
        "head3d_no_head": (0.0117, 0.0872),
        "head3d": (0.0113, 0.0855),
    },
}


def paper_dataset(test_set: str) -> str:
    """Name of the paper's data set that plays the same part as ``test_set``, or an empty string.

    For orientation only. The paper trains on VoxCeleb and tests on other videos of it and on FaceForensics, which it
    never trains on. No set of another source is like either: ``*-seen`` (later parts of the training videos) stands
    beside the former as that of the source trained on, ``*-unseen`` (people never trained on) beside the latter.
    """
    own = {"voxceleb": "VoxCeleb", "faceforensics": "FaceForensics"}.get(test_set.partition("-")[0])
    if own:
        return own
    if test_set.endswith("-unseen"):
        return "FaceForensics"
    if test_set.endswith("-seen"):
        return "VoxCeleb"
    return ""
