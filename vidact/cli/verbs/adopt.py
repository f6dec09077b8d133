"""`adopt`: make a run of a network that was trained elsewhere, so that all other verbs work on it.

Heavy imports happen when the verb runs, so that its help answers at once.
"""

from pathlib import Path
from typing import Any

from vidact.core.errors import ConfigError
from vidact.core.terminal import printable
from vidact.runs.adopting import Adaptation, ClipsOfNetwork


def adopt(
    network: str,
    out: str,
    *,
    weights: str | None = None,
    classes: str | None = None,
    clips: ClipsOfNetwork,
    adaptation: Adaptation,
    init: dict[str, Any] | None = None,
) -> int:
    """Make a run folder of a network that was trained elsewhere: explain, evaluate and report then work on it.

    A network of one's own is imported: its code is run. Other verbs then need --trust with its module.

    Args:
        network: torchvision:swin3d_t, hf:FOLDER or an id of Hugging Face's hub, or a class path, as my_module.Net;
            modules in the current folder are found.
        out: The run folder, which must be new.
        weights: File of its state_dict; null for those that come with it (torchvision's are downloaded).
        classes: Text file with the name of a class in each line, in the order of its outputs; null for those that come
            with its weights.
        clips: What it was trained on.
        adaptation: What it takes and returns.
        init: More arguments of its constructor, as '{"depth": 50}'.
    """
    import shlex
    import sys

    from vidact.runs.adopting import Origin, adopt_network

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    names = None if classes is None else _read_class_names(Path(classes))
    adopt_network(Origin(network, weights, names, init, adaptation), Path(out), clips=clips)
    place = shlex.quote(out)
    if network.startswith("hf:") and clips.fps is None and clips.stride == 1:
        print(
            "every frame of a video is taken: the folder does not say at which rate the network's clips were sampled; "
            "give --fps, or --stride"
        )
    module = "" if ":" in network or network.startswith("vidact.") else f" --trust {network.rpartition('.')[0]}"
    print(printable(f"{out}  python -m vidact explain {place} VIDEO{module}"))
    return 0


def _read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes from a text file, one in each line.

    Raises:
        ConfigError: it cannot be read, names nothing, or a class twice.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--classes {path}: cannot be read ({error}); expected a class in each line") from error
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if not names or twice is not None:
        found = "names nothing" if not names else f"names {twice} twice"
        raise ConfigError(f"--classes {path}: {found}; expected a class in each line")
    return tuple(names)
