"""Find a person in frames with MediaPipe's pose networks, which are read from its wheel; MediaPipe itself never runs.

A detector places two alignment points: the middle of the hips, and one on a circle about the whole person. They span a
turned square, and a second network marks the person in it (Bazarevsky et al. 2020, BlazePose). It finds
one person at most.
"""

import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as transforms

from vidact.core.errors import ConfigError, EnvironmentProblem, in_one_line

_FOLDER = "mediapipe/modules"
FILES = {  # from the file's name to its place in the wheel and its SHA-256
    "pose_detection.tflite": ("pose_detection", "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c"),
    "pose_landmark_full.tflite": ("pose_landmark", "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"),
}
WHEEL = "mediapipe-0.10.21-*.whl"
DETECTOR_SIDE, LANDMARK_SIDE = 224, 256  # pixels
CELLS = ((28, 2), (14, 2), (7, 6))  # side of the detector's grids, and anchors in each of their cells
LEAST_SCORE, LEAST_PRESENCE = 0.5, 0.5
SAME_PERSON = 0.3  # overlap (IoU) from which two detections are averaged
MARGIN = 1.25  # side of the square over the diameter of the circle; what the second network was trained with
HIPS, CIRCLE = 33, 34  # the second network's own alignment points, among its 39 landmarks


class Square(NamedTuple):
    """A turned square in a frame.

    Attributes:
        x: Of its middle, in pixels.
        y: Of its middle, in pixels.
        side: In pixels.
        turn: In radians, clockwise as seen.
    """

    x: float
    y: float
    side: float
    turn: float


class PoseNetwork:
    """Marks one person in each frame.

    Args:
        place: The wheel `mediapipe-0.10.21-*.whl`, or a folder with its two networks.

    Raises:
        ConfigError: it does not hold them.
        EnvironmentProblem: the interpreter is not installed.
    """

    def __init__(self, place: Path) -> None:
        contents = [_read(place, name) for name in FILES]
        self.digest = "+".join(digest for _, digest in FILES.values())
        self._detector, self._landmarks = (_interpreter(content) for content in contents)
        self._anchors = anchors()

    def find(self, frames: UInt8[Tensor, "T 3 H W"]) -> Bool[Tensor, "T H W"]:
        """Mark the person in frames that follow each other; where none is detected it is looked for where it was."""
        masks, before = [], None
        for frame in frames.float() / 255:
            mask = torch.zeros(frame.shape[1:], dtype=torch.bool)
            for square in (self._detect(frame), before):
                if square is not None and (found := self._mark(frame, square)) is not None:
                    mask, before = found
                    break
            else:
                before = None
            masks.append(mask)
        return torch.stack(masks)

    def _detect(self, frame: Float[Tensor, "3 H W"]) -> Square | None:
        height, width = frame.shape[1:]
        scale = DETECTOR_SIDE / max(height, width)
        inner = [max(1, round(height * scale)), max(1, round(width * scale))]
        top, left = (DETECTOR_SIDE - inner[0]) // 2, (DETECTOR_SIDE - inner[1]) // 2
        picture = torch.zeros(3, DETECTOR_SIDE, DETECTOR_SIDE)  # black bars keep the aspect
        picture[:, top : top + inner[0], left : left + inner[1]] = transforms.resize(frame, inner, antialias=True)
        outputs = _run(self._detector, picture * 2 - 1)
        points = alignment_points(outputs[(1, 2254, 12)][0], outputs[(1, 2254, 1)][0, :, 0], self._anchors)
        if points is None:
            return None
        return square_about(*((points - torch.tensor([left, top])) / scale))

    def _mark(self, frame: Float[Tensor, "3 H W"], square: Square) -> tuple[Bool[Tensor, "H W"], Square] | None:
        """Mark the person in a square, and say where it is looked for next; None if there is none."""
        outputs = _run(self._landmarks, cut_out(frame, square, LANDMARK_SIDE).clamp(0, 1))
        if float(outputs[(1, 1)]) < LEAST_PRESENCE:
            return None
        size = (frame.shape[1], frame.shape[2])
        share = outputs[(1, LANDMARK_SIDE, LANDMARK_SIDE, 1)][0, :, :, 0].sigmoid()
        landmarks = outputs[(1, 195)].reshape(39, 5)[[HIPS, CIRCLE], :2] / LANDMARK_SIDE - 0.5
        return put_back(share, square, size) >= 0.5, square_about(*_from_square(landmarks * square.side, square))


def anchors() -> Float[Tensor, "2254 2"]:
    """List the middles (x, y) of the detector's anchors as shares of its input: cell by cell, grid by grid."""
    grids = []
    for side, each in CELLS:
        middle = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        grids.append(torch.stack([x.flatten(), y.flatten()], dim=1).repeat_interleave(each, dim=0))
    return torch.cat(grids)


def alignment_points(
    raw: Float[Tensor, "N 12"], logits: Float[Tensor, " N"], middles: Float[Tensor, "N 2"]
) -> Float[Tensor, "2 2"] | None:
    """Decode the detector's output: (x, y) of hips and circle of the most certain person, in pixels of its input.

    Offsets are from the anchor's middle: x and y of the box, its width and height, then points. Detections of the same
    person are averaged, weighted by their scores.
    """
    scores = logits.sigmoid()
    kept = scores >= LEAST_SCORE
    if not bool(kept.any()):
        return None
    raw, scores, middles = raw[kept], scores[kept], middles[kept] * DETECTOR_SIDE
    centre, half = raw[:, :2] + middles, raw[:, 2:4] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    best = int(scores.argmax())
    same = box_iou(boxes[best : best + 1], boxes)[0] >= SAME_PERSON
    same[best] = True
    weight = (scores * same / (scores * same).sum())[:, None, None]
    points: Tensor = ((raw[:, 4:8].reshape(-1, 2, 2) + middles[:, None]) * weight).sum(dim=0)
    return points


def square_about(hips: Float[Tensor, "2"], circle: Float[Tensor, "2"]) -> Square:
    """Span the square about a person, so that the way from the hips to the circle leads up in it."""
    x, y = hips.tolist()
    right, down = (circle - hips).tolist()
    side = max(1.0, 2 * math.hypot(right, down) * MARGIN)
    return Square(x, y, side, math.atan2(right, -down))


def _from_square(points: Float[Tensor, "... 2"], square: Square) -> Float[Tensor, "... 2"]:
    """Turn points from pixels about a square's middle to pixels of the frame."""
    cos, sin = math.cos(square.turn), math.sin(square.turn)
    x, y = points.unbind(dim=-1)
    return torch.stack([square.x + cos * x - sin * y, square.y + sin * x + cos * y], dim=-1)


def _pixel_middles(height: int, width: int) -> Float[Tensor, "H W 2"]:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y], dim=-1)


def cut_out(frame: Float[Tensor, "C H W"], square: Square, side: int) -> Float[Tensor, "C side side"]:
    """Cut a turned square out of a frame, upright, `side` pixels wide; black beyond the frame."""
    points = (_pixel_middles(side, side) / side - 0.5) * square.side
    grid = _from_square(points, square) * 2 / torch.tensor([frame.shape[2], frame.shape[1]]) - 1
    return F.grid_sample(frame[None], grid[None], align_corners=False)[0]


def put_back(share: Float[Tensor, "side side"], square: Square, size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Put what was found in a square back into its frame; 0 outside of the square."""
    away = _pixel_middles(*size) - torch.tensor([square.x, square.y])
    back = _from_square(away, Square(0, 0, square.side, -square.turn))
    return F.grid_sample(share[None, None], (back * 2 / square.side)[None], align_corners=False)[0, 0]


def _run(interpreter: Any, picture: Float[Tensor, "3 H W"]) -> dict[tuple[int, ...], Tensor]:
    """Run a network; gives its outputs by their shapes, which differ."""
    inputs = picture.permute(1, 2, 0)[None].contiguous().numpy().astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    outputs = [torch.from_numpy(interpreter.get_tensor(one["index"])) for one in interpreter.get_output_details()]
    return {tuple(output.shape): output for output in outputs}


def _interpreter(content: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EnvironmentProblem(
            f"--actor pose needs the interpreter of its networks ({error}): pip install 'vidact[person]'"
        ) from error
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _read(place: Path, name: str) -> bytes:
    """Read one of the networks out of the wheel or a folder, and check that it is the one that is meant."""
    folder, digest = FILES[name]
    inside = f"{_FOLDER}/{folder}/{name}"
    expected = f"expected {WHEEL} (pip download mediapipe==0.10.21 --no-deps) or a folder with {', '.join(FILES)}"
    try:
        if place.is_dir():
            content = next(path for path in (place / name, place / inside) if path.is_file()).read_bytes()
        else:
            with zipfile.ZipFile(place) as wheel:
                content = wheel.read(inside)
    except (StopIteration, KeyError) as error:
        raise ConfigError(f"--actor pose:{place}: holds no {name}; {expected}") from error
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise ConfigError(f"--actor pose:{place}: cannot be read ({in_one_line(error)}); {expected}") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ConfigError(
            f"--actor pose:{place}: its {name} is another one (SHA-256 {found[:12]}…, not {digest[:12]}…); {expected}"
        )
    return content
