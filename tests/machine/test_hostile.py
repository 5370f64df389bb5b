"""A folder that lies: whatever is in it, opening it says which file and field."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.errors import BadImage, OrchestraError
from orchestra.io.entry import AT_CWD
from orchestra.machine import Machine
from orchestra.machine.record import seal
from tests.guests import ready_ledger, write_image

OLD, NEW = "1.delta", "2.delta"  # 0.delta is absorbed by the larger 1.delta
IMAGE = "images0.img"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with ready_ledger(folder / "app", write_image(folder / "image")) as machine:
        machine.advance(b"fill 2000 7")
        machine.snapshot(folder / "before")
        machine.advance(b"mint alice 100")
        machine.snapshot(folder / "snap")
    names = sorted(path.name for path in (folder / "snap").iterdir())
    assert names == [OLD, NEW, IMAGE, "machine.json"]
    return folder / "snap"


@pytest.fixture
def copy(snapshot, tmp_path):
    target = tmp_path / "snap"
    shutil.copytree(snapshot, target)
    for path in target.iterdir():
        path.chmod(0o644)
    return target


def rewrite(folder, change):
    path = folder / "machine.json"
    tree = json.loads(path.read_bytes())
    tree.pop("checksum")
    change(tree)
    path.write_bytes(seal(json.dumps(tree).encode()))


def refuses(folder, *words):
    with pytest.raises(BadImage) as caught:
        Machine.open(folder)
    for word in words:
        assert word in str(caught.value)


RECORD_LIES = {
    "an absolute path": (lambda tree: tree.update(deltas=["/etc/passwd"]), "deltas"),
    "a path upwards": (lambda tree: tree.update(deltas=["../x"]), "deltas"),
    "a delta with no number": (lambda tree: tree.update(deltas=["a.delta"]), "deltas"),
    "a folder as delta": (lambda tree: tree.update(deltas=[".."]), "deltas"),
    "a missing delta": (lambda tree: tree.update(deltas=["9.delta"]), "9.delta"),
    "no delta": (lambda tree: tree.update(deltas=[]), "deltas"),
    "another format": (lambda tree: tree.update(format=2), "format"),
    "a field too many": (lambda tree: tree.update(extra=1), "extra"),
    "a field too few": (lambda tree: tree.pop("extents"), "extents"),
    "a wrong type": (lambda tree: tree.update(cycle="soon"), "cycle"),
    "a negative cycle": (lambda tree: tree.update(cycle=-1), "cycle"),
    "a config that cannot be": (lambda tree: tree["config"]["ram"].update(length=5), "ram"),
    "an image longer than it says": (lambda tree: tree["images"][0].update(length=1), "length"),
    "an extent past its image": (
        lambda tree: tree["extents"][0].update(length=1 << 30),
        "extents.length",
    ),
    "an extent outside memory": (
        lambda tree: tree["extents"][0].update(address=0x1000),
        "extents.address",
    ),
    "an extent that is no page": (
        lambda tree: tree["extents"][0].update(offset=1),
        "extents.address",
    ),
    "an extent of no image": (lambda tree: tree["extents"][0].update(file="x"), "extents.file"),
    "a deep nest": (lambda tree: tree.update(config=[[[[]]]]), "content"),
}


@pytest.mark.parametrize("lie", RECORD_LIES)
def test_a_record_with(lie, copy):
    change, word = RECORD_LIES[lie]
    rewrite(copy, change)
    refuses(copy, word)


def test_a_record_that_was_edited_without_its_checksum_is_refused(copy):
    path = copy / "machine.json"
    path.write_bytes(path.read_bytes().replace(b'"cycle":', b'"cycle":1'))
    refuses(copy, "machine.json", "checksum")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_record_that_is_no_record_is_refused(copy, content):
    (copy / "machine.json").write_bytes(content)
    refuses(copy, "machine.json")


def test_a_folder_without_a_record_is_refused(tmp_path):
    refuses(tmp_path, "machine.json")
    refuses(tmp_path / "nowhere", "no such folder")


@pytest.mark.parametrize("name", [OLD, IMAGE, "machine.json"])
def test_a_symlink_in_a_folder_is_not_followed(copy, name, tmp_path):
    shutil.move(copy / name, tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    refuses(copy, name)


@pytest.mark.parametrize("name", [OLD, NEW, IMAGE])
@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "folder", "fifo"])
def test_a_file_of_the_wrong_kind_or_length_is_refused(copy, name, change):
    import os

    path = copy / name
    data = path.read_bytes()
    path.unlink()
    match change:
        case "shorter":
            path.write_bytes(data[:-1])
        case "longer":
            path.write_bytes(data + b"\0")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    refuses(copy, name)


def test_deltas_of_another_machine_are_refused_by_their_index(copy):
    """Page numbers outside this machine's memory never reach the core."""
    from orchestra.machine.delta import write_delta

    for page in (0, 0x10000, 1 << 40, 1 << 62):
        (copy / OLD).unlink()
        write_delta(AT_CWD, str(copy / OLD), [page], bytes(4096), bytes(4096))
        refuses(copy, OLD, "index")


def test_a_state_no_machine_can_be_in_is_refused(copy):
    from orchestra.machine.delta import write_delta

    (copy / OLD).unlink()
    write_delta(AT_CWD, str(copy / OLD), [], b"", bytes([1]) + bytes(4095))  # x0 = 1
    refuses(copy, OLD, "x0")


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from([OLD, NEW, "machine.json"]),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_any_flipped_bits_give_an_error_or_the_same_machine(
    snapshot, tmp_path_factory, name, places
):
    target = tmp_path_factory.mktemp("flip") / "snap"
    shutil.copytree(snapshot, target)
    path = target / name
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    for where, bits in places:
        data[min(int(where * len(data)), len(data) - 1)] ^= bits
    path.write_bytes(data)
    try:
        with Machine.open(target) as machine:
            machine.run(max_cycles=10_000)
    except OrchestraError as error:
        assert name in str(error)  # noqa: PT017 - opening may also succeed: a page's content changed
