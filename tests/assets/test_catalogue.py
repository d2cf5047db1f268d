"""The list of assets, and what is read out of some."""

from head3d.assets import cache as assets
from head3d.assets.catalogue import ASSETS, Package
from head3d.cli import load_function


def test_list_is_sound() -> None:
    assert len({assets.path_of(asset) for asset in ASSETS.values()}) == len(ASSETS)
    for name, asset in ASSETS.items():
        assert name == asset.name
        assert asset.licence
        if asset.check:  # what a user may have to get by hand is seen to load before it is taken
            assert asset.optional and asset.page.startswith("https://")
            assert callable(load_function(asset.check[0]))
            assert len(asset.sha256) in (0, 64) and len(asset.reported) in (0, 64)
        else:
            assert asset.sources
            assert len(asset.sha256) == 64 or (asset.optional and len(asset.sha256) >= 8)
        for source in asset.sources:
            if isinstance(source, Package):
                assert len(source.sha256) == 64
            else:
                assert source.url.startswith("https://")


def test_convolutions_have_torchvision_names() -> None:
    alexnet = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    vgg, inputs, layer = {}, 3, 0
    for outputs in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        if outputs:
            vgg[layer] = (outputs, inputs, 3, 3)
            inputs = outputs
        layer += 2 if outputs else 1  # a ReLU follows each convolution, a pooling layer stands alone
    for shapes, weights in ((alexnet, assets.load_alexnet()), (vgg, assets.load_vgg("vgg16"))):
        wanted = {f"features.{layer}.weight": shape for layer, shape in shapes.items()}
        wanted |= {f"features.{layer}.bias": shape[:1] for layer, shape in shapes.items()}
        assert {name: tuple(value.shape) for name, value in weights.items()} == wanted
