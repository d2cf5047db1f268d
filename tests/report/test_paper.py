"""The paper's numbers, written out once more from its pages: a slip of one digit would stand in every table."""

from head3d.report.paper import TABLE1, TABLE3

# L2 and LPIPS of FOMM, MRAA, DaGAN, FaceV2V and Head3D on either data set, line by line.
PRINTED_1 = {
    "VoxCeleb": "0.0114 0.0856 0.0108 0.0830 0.0123 0.0885 0.0186 0.0994 0.0113 0.0855",
    "FaceForensics": "0.0102 0.0543 0.0075 0.0449 0.0106 0.0490 0.0119 0.0509 0.0079 0.0442",
}
METHODS = ("fomm", "mraa", "dagan", "facev2v", "head3d")
# N = 1, 3, 10, the mean head, without the rendered head, N = 5.
PRINTED_3 = "0.0117 0.0873 0.0115 0.0880 0.0116 0.0839 0.0117 0.0897 0.0117 0.0872 0.0113 0.0855"
ABLATIONS = ("head3d_n1", "head3d_n3", "head3d_n10", "head3d_mean_canonical", "head3d_no_head", "head3d")


def test_tables_1_and_3_are_as_printed() -> None:
    for dataset, printed in PRINTED_1.items():
        rows = TABLE1[dataset]
        assert [value for name in METHODS for value in rows[name]] == [float(word) for word in printed.split()]
    assert set(TABLE1) == set(PRINTED_1) and set(TABLE3) == {"VoxCeleb"}
    rows = TABLE3["VoxCeleb"]
    assert [value for name in ABLATIONS for value in rows[name]] == [float(word) for word in PRINTED_3.split()]
    assert rows["head3d"] == TABLE1["VoxCeleb"]["head3d"]
