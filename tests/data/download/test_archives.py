import contextlib
import hashlib
import ntpath
import posixpath
import random
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import rarfile
from hypothesis import given
from hypothesis import strategies as st
from rar_writer import HARD_LINK, SYMLINK, RarEntry, rar4_bytes, rar_bytes, write_rar

from vidact.core.errors import DataError, EnvironmentProblem, VidactError
from vidact.data.download.archives import (
    Archive,
    missing_for_compressed_rar,
    missing_for_rar,
    open_archive,
    why_unsafe,
)
from vidact.data.download.unpacking import open_inner_archive, unpack_folder

FILES = {"run/a [1];&.avi": b"first" * 1000, "run/-b.avi": random.Random(0).randbytes(3_000_000), "run/ü.avi": b""}


def write_zip(path: Path, files: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.writestr(info, data)
    return path


@pytest.fixture(params=["rar", "zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write = write_rar if request.param == "rar" else write_zip
    return write(tmp_path / f"a.{request.param}", FILES)


def unpack_all(archive: Archive, target: Path) -> None:
    unpack_folder(archive, {entry.file_name: entry for entry in archive.entries}, target=target)


def unpack(path: Path, target: Path) -> None:
    with open_archive(path) as archive:
        unpack_all(archive, target)


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_come_out_as_they_went_in(path: Path, tmp_path: Path) -> None:
    with open_archive(path) as archive:
        assert {entry.name: entry.num_bytes for entry in archive.entries} == {n: len(b) for n, b in FILES.items()}
        assert {entry.folder_name for entry in archive.entries} == {"run"}
        unpack_all(archive, tmp_path / "out" / "run")
    assert everything_in(tmp_path / "out") == sorted(["run", *FILES])
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES


def test_folders_are_no_files(tmp_path: Path) -> None:
    path = write_rar(tmp_path / "a.rar", [RarEntry("run", is_folder=True, mode=0o40755), RarEntry("run/a.avi", b"a")])
    with open_archive(path) as archive:
        assert [entry.name for entry in archive.entries] == ["run/a.avi"]


def test_an_archive_in_an_archive_is_read_and_its_copy_removed(tmp_path: Path) -> None:
    path = write_rar(tmp_path / "a.rar", {"run.rar": rar_bytes(FILES)})
    out = tmp_path / "out"
    with open_archive(path) as outer, open_inner_archive(outer, outer.entries[0], folder=out) as inner:
        assert inner.label == f"{path}, run.rar"
        unpack_all(inner, out / "run")
    assert everything_in(tmp_path / "out") == sorted(["run", *FILES])


HOSTILE = [
    "../evil.avi",
    "run/../../evil.avi",
    "run/..",
    "..",
    "/etc/evil.avi",
    "//server/share/evil.avi",
    "C:/evil.avi",
    "c:evil.avi",
    "..\\evil.avi",
    "run\\..\\..\\evil.avi",
    "\\\\server\\evil.avi",
    "run//evil.avi",
    "./evil.avi",
    "run/\n.avi",
    "run/\x7f.avi",
]


@pytest.mark.parametrize("ending", ["rar", "zip"])
def test_entries_that_would_land_outside_are_refused_before_anything_is_written(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "x" / "y"
    folder.mkdir(parents=True)
    write = write_rar if ending == "rar" else write_zip
    for name in HOSTILE:
        path = write(folder / f"a.{ending}", {"run/good.avi": b"good", name: b"evil"})
        with pytest.raises(DataError, match=r"entry .* nothing was unpacked from this archive") as caught:
            unpack(path, folder / "out" / "run")
        assert repr(name.replace("\\", "/")) in str(caught.value).replace("\\\\", "/")
        assert everything_in(tmp_path) == ["x", "x/y", f"x/y/a.{ending}"], name


def test_a_name_with_nul_is_refused_in_zip_and_cut_in_rar(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"run/a.avi\0/../../../evil": b"x"})
    with pytest.raises(DataError, match="control character"):
        unpack(path, tmp_path / "out")
    unpack(write_rar(tmp_path / "a.rar", {"run/a.avi\0/../../../evil": b"x"}), tmp_path / "out")
    assert everything_in(tmp_path) == ["a.rar", "a.zip", "out", "out/a.avi"]


@given(st.text(st.sampled_from("./\\:aC\0 \n"), max_size=12))
def test_a_name_that_passes_stays_inside_on_any_system(name: str) -> None:
    if why_unsafe(name) is None:
        for system in (posixpath, ntpath):
            joined = system.normpath(system.join("/base" if system is posixpath else "D:\\base", name))
            assert joined.startswith("/base/" if system is posixpath else "D:\\base\\")


def test_the_names_of_hmdb51_pass(hmdb51: Path) -> None:
    lines = [line for path in (hmdb51 / "splits").glob("*1.txt") for line in path.read_text().splitlines()]
    names = [f"run/{line.split()[0]}" for line in lines]
    assert len(names) == 6766
    assert [name for name in names if why_unsafe(name)] == []


@pytest.mark.parametrize(
    "entry",
    [
        RarEntry("run/l.avi", mode=0o120777, link=(SYMLINK, "/etc/passwd")),
        RarEntry("run/l.avi", link=(HARD_LINK, "../../evil")),
    ],
)
def test_links_in_rar_are_refused(tmp_path: Path, entry: RarEntry) -> None:
    with pytest.raises(DataError, match=r"entry 'run/l.avi' is a "):
        unpack(write_rar(tmp_path / "a.rar", [entry]), tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
@pytest.mark.parametrize("ending", ["rar", "zip"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: int, ending: str) -> None:
    if ending == "rar":
        path = write_rar(tmp_path / "a.rar", [RarEntry("run/x.avi", b"x", mode=kind | 0o644)])
    else:
        path = write_zip(tmp_path / "a.zip", {"run/x.avi": b"x"}, external_attr=(kind | 0o644) << 16)
    with pytest.raises(DataError, match=r"entry 'run/x.avi' is a (link|device)"):
        unpack(path, tmp_path / "out")


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_rar(tmp_path / "a.rar", [RarEntry("run/a.avi", b"1"), RarEntry("run/a.avi", b"2")])
    with pytest.raises(DataError, match=r"entry 'run/a.avi' has the name of another entry"):
        unpack(path, tmp_path / "out")


def test_a_damaged_entry_is_named_and_nothing_of_its_folder_remains(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the three million random bytes
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"entry run/-b.avi: damaged \(.*CRC.*\); delete the archive") as caught:
        unpack(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert everything_in(tmp_path) == [path.name]


@pytest.mark.parametrize("declared", [4, 6, 1 << 40])
def test_an_entry_of_another_length_than_declared_is_refused(tmp_path: Path, declared: int) -> None:
    path = write_rar(tmp_path / "a.rar", [RarEntry("run/a.avi", b"12345", num_bytes=declared)])
    with pytest.raises((DataError, EnvironmentProblem), match=r"damaged|declares|unpacks to 1099.51 GB"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["a.rar"]


def test_what_needs_more_space_than_there_is_is_not_begun(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(EnvironmentProblem, match=r"unpacks to 0.00 GB and 0.00 GB are free; free some space"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == [path.name]


@pytest.mark.parametrize("write", [rar_bytes, rar4_bytes])
def test_an_archive_cut_anywhere_is_never_taken_for_whole(tmp_path: Path, write: Callable[..., bytes]) -> None:
    files = {f"run/{number}.avi": bytes(10) for number in range(3)}
    whole = write(files)
    path = tmp_path / "a.rar"
    # RAR 4 may lack its last block; a file that ends between two entries is then an archive of fewer.
    allowed = (
        [len(rar4_bytes(dict(list(files.items())[:n]), end=False)) for n in range(4)] if write is rar4_bytes else []
    )
    for length in sorted({*range(len(whole))} - {*allowed}):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            unpack(path, tmp_path / "out")
    path.write_bytes(whole)
    unpack(path, tmp_path / "out")


def test_rar_4_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar4_bytes({"run/a.avi": b"first", "run/b.avi": b"second"}))
    unpack(tmp_path / "a.rar", tmp_path / "run")
    assert (tmp_path / "run" / "b.avi").read_bytes() == b"second"
    (tmp_path / "a.rar").write_bytes(rar4_bytes({"run/a.avi": b"first", "run/../../evil.avi": b"second"}))
    with pytest.raises(DataError, match=r"entry 'run/../../evil.avi' has a path that leads out"):
        unpack(tmp_path / "a.rar", tmp_path / "again")


@pytest.mark.parametrize("ending", ["rar", "zip"])
def test_no_flipped_bit_gives_other_files_or_another_error(tmp_path: Path, ending: str) -> None:
    files = {"run/a.avi": b"some text, some text", "run/b.avi": b"other"}
    path = (write_rar if ending == "rar" else write_zip)(tmp_path / f"a.{ending}", files)
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(VidactError):
            unpack(path, tmp_path / "out")
            # What no checksum covers may differ: dates, attributes, and a ZIP's names.
            assert {file.read_bytes() for file in (tmp_path / "out").iterdir()} <= set(files.values())
            shutil.rmtree(tmp_path / "out")


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"<html>")
    with pytest.raises(DataError, match="expected a RAR or ZIP archive, got a file that begins with b'<html>'"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
    with pytest.raises(EnvironmentProblem, match=r"gone.rar: No such file"):
        unpack(tmp_path / "gone.rar", tmp_path / "out")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"run/a.avi": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        unpack(path, tmp_path / "out")


def test_a_missing_package_is_reported(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rarfile", None)
    assert "pip install 'vidact[download]'" in str(missing_for_rar())
    if path.suffix == ".rar":
        with pytest.raises(EnvironmentProblem, match=r"a RAR archive needs the package rarfile: pip install"):
            unpack(path, tmp_path / "out")
    else:
        unpack(path, tmp_path / "out")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is all of PATH, so that only what is put there is found."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    yield folder
    rarfile.CURRENT_SETUP = None


COMPRESSED = [RarEntry("run/a.avi", b"stored"), RarEntry("run/b.avi", b"compressed, allegedly", method=3)]


def test_a_missing_program_is_reported_before_anything_is_written(tmp_path: Path, programs: Path) -> None:
    path = write_rar(tmp_path / "a.rar", COMPRESSED)
    assert "apt install unar" in str(missing_for_compressed_rar())
    with pytest.raises(
        EnvironmentProblem, match=r"a compressed RAR archive needs the program unrar or unar: on Debian"
    ):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["a.rar", "programs"]


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell")
def test_programs_that_cannot_decompress_are_not_used(tmp_path: Path, programs: Path) -> None:
    for name in ("bsdtar", "7z", "7zz"):
        write_program(programs / name, "exit 0")
    assert "apt install unar" in str(missing_for_compressed_rar())


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell")
def test_a_compressed_entry_comes_from_the_program_and_its_crc_is_checked(tmp_path: Path, programs: Path) -> None:
    data = b"what the program gives"
    write_program(programs / "unar", f"printf '{data.decode()}'")
    good = RarEntry("run/a.avi", b"packed", method=3, num_bytes=len(data), crc=zlib.crc32(data))
    unpack(write_rar(tmp_path / "a.rar", [good]), tmp_path / "out")
    assert (tmp_path / "out" / "a.avi").read_bytes() == data
    bad = replace(good, crc=1)
    with pytest.raises(DataError, match=r"entry run/a.avi: damaged \(.*CRC.*install unrar, which reads more than unar"):
        unpack(write_rar(tmp_path / "a.rar", [bad]), tmp_path / "again")


def test_what_lies_beside_is_no_obstacle_and_stays(path: Path, tmp_path: Path) -> None:
    left = tmp_path / ".run.part"
    left.mkdir()
    (left / "half.avi").write_bytes(b"half")
    unpack(path, tmp_path / "run")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == sorted(Path(name).name for name in FILES)
    assert (left / "half.avi").read_bytes() == b"half"
    assert not list(tmp_path.glob(".vidact-*"))


def test_what_is_written_is_what_another_reader_reads(path: Path, tmp_path: Path) -> None:
    unpack(path, tmp_path / "run")
    reader = rarfile.RarFile(path) if path.suffix == ".rar" else zipfile.ZipFile(path)
    with reader:
        for name in reader.namelist():
            ours = hashlib.sha256((tmp_path / name).read_bytes()).digest()
            assert ours == hashlib.sha256(reader.read(name)).digest()
