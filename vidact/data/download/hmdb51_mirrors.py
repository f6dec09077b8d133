"""Addresses, checksums and contents of HMDB51's archives."""

from dataclasses import dataclass

from vidact.data.download.mirrors import DownloadSource

_NAMES = """
brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing flic_flac
golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike ride_horse run
shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball sword sword_exercise
talk throw turn walk wave
"""
CLASS_NAMES = tuple(_NAMES.split())
NUM_CLIPS = 6766

_SERRE_LAB = "http://serre-lab.clps.brown.edu/wp-content/uploads/2013/10"
_MICHIGAN_NLP = "https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/16eb4625d3bf20255526e1327ee9e2ea32d66c82"

# The MD5 sums are those that torchvision (splits) and DeepMind's `brave` (both) check; the SHA-256 sums are those
# of the ZIP archives' own repository.
_VIDEOS = (
    DownloadSource("hmdb51_org.rar", f"{_SERRE_LAB}/hmdb51_org.rar", md5="517d6f1f19f215c45cdd4d25356be1fb"),
    DownloadSource(
        "hmdb51_org.zip",
        f"{_MICHIGAN_NLP}/hmdb51_org.zip",
        sha256="2d652f386debd04ae8f83508faacb959c03c9cbf1176fc76848b73cda4d52e57",
        num_bytes=4_246_812_958,
    ),
)
_SPLITS = (
    DownloadSource(
        "test_train_splits.rar", f"{_SERRE_LAB}/test_train_splits.rar", md5="15e67781e70dcfbdce2d7dbb9b3344b5"
    ),
    DownloadSource(
        "test_train_splits.zip",
        f"{_MICHIGAN_NLP}/test_train_splits.zip",
        sha256="12df0053bd9d570817edb10d2299030f43646969d5d42ff40200249b45ab2efa",
        num_bytes=222_848,
    ),
)


@dataclass(frozen=True)
class Mirrors:
    """Where to look for the archives.

    Attributes:
        urls: Addresses of folders that contain them under their own names; tried first.
        builtin: Whether to try vidact's own list afterwards.
    """

    urls: tuple[str, ...] = ()
    builtin: bool = True
