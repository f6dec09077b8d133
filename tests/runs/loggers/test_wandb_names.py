import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.sdk.artifacts._internal_artifact import sanitize_artifact_name

from vidact.runs.loggers.wandb_names import MAX_MEDIA, artifact_name, file_stem, media_key, printable

LONG = "climb_stairs/A_person_goes_up_the_stairs_of_a_very_high_tower_step_by_step_without_a_rest_f_cm_np1_le_med_"


def as_wandb_writes_it(key: str, run_id: str = "12345678") -> str:
    """Name the artifact of a chart, as `wandb.sdk.data_types.utils._log_table_artifact` does; case told by no disk."""
    return sanitize_artifact_name(f"run-{run_id}-{key}_table").lower()


@given(st.lists(st.text(alphabet=st.sampled_from("aAbB01/._-: é\n"), max_size=90), unique=True, max_size=8))
def test_no_two_names_are_one_for_wandb_and_none_is_too_long(names: list[str]) -> None:
    keys = [media_key(f"frame_relevance/{name}") for name in names]
    assert len({as_wandb_writes_it(key) for key in keys}) == len(names)
    assert all(re.fullmatch(r"[\w/-]+", key, re.ASCII) and len(key) <= MAX_MEDIA for key in keys)
    assert not any(part in {"", ".", ".."} for key in keys for part in key.split("/"))
    assert len({artifact_name(name).lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[\w.-]{1,128}", artifact_name(name), re.ASCII) for name in names)
    assert len({printable(name) for name in names}) == len(names)


@pytest.mark.parametrize("run_id", ["12345678", "x" * 64])
def test_names_that_differ_at_their_end_alone_stay_apart_in_a_run_of_any_id(run_id: str) -> None:
    keys = [media_key(f"frame_hotspots/{LONG}{number}", run_id=run_id) for number in (0, 1)]
    assert len(set(keys)) == 2
    assert all(key.startswith("frame_hotspots/") for key in keys)
    assert all(len(as_wandb_writes_it(key, run_id)) <= 128 for key in keys)
    assert keys == [media_key(f"frame_hotspots/{LONG}{number}", run_id=run_id) for number in (0, 1)], "the same again"
    assert media_key(f"frame_hotspots/{LONG}0") == "frame_hotspots/climb_stairs/A_person_goes_up_the_stairs-0f9f36b7"


def test_plain_names_stay_what_they_are() -> None:
    assert media_key("explanation/overlay_2") == "explanation/overlay_2"
    assert media_key("frame_relevance/left/source_3") == "frame_relevance/left/source_3"
    assert artifact_name("report-version_0") == "report-version_0"
    assert printable("val/class_accuracy/Apply Eye Make-up.2") == "val/class_accuracy/Apply Eye Make-up.2"


def test_a_name_that_looks_like_one_that_was_cut_is_not_taken_for_it() -> None:
    cut = media_key("frame_relevance/Left")
    assert media_key(cut.lower()) != cut.lower()


def test_a_file_has_a_name_that_a_disk_takes() -> None:
    assert file_stem("a clip", ending=".png") == "a clip"
    stems = [file_stem("é" * 120 + end, ending=".predicted.frame_relevance.png") for end in "ab"]
    assert len(set(stems)) == 2
    assert all(len(f"{stem}.predicted.frame_relevance.png".encode()) <= 255 for stem in stems)


def test_all_official_names_have_keys_of_their_own(hmdb51: Path) -> None:
    names = {
        f"{path.name.removesuffix('_test_split1.txt')}/{line.strip().rpartition(' ')[0].strip()}"
        for path in (hmdb51 / "splits").glob("*_test_split1.txt")
        for line in path.read_text().splitlines()
        if line.strip()
    }
    assert len(names) == 6766
    written = {as_wandb_writes_it(media_key(f"frame_relevance/{name.removesuffix('.avi')}")) for name in names}
    assert len(written) == 6766
    assert max(map(len, written)) <= 128
