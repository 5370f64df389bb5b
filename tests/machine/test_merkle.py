"""The Merkle tree against the plainest one, the proofs against everybody who would bend them."""

import dataclasses
import json
from array import array

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.machine._core import Hashes, blocks_in_use
from orchestra.machine.merkle import Tree
from orchestra.machine.proof import ZEROS, Proof, hash_range
from tests.machine.plain_hash import STATE_PAGE, plain_root, plain_zero, sha256

ZERO_PAGE = bytes(4096)
RAM_PAGE = 0x8_0000


def content(seed):
    """A page that is told by a small number; 0 is the page of zeros."""
    return bytes([seed]) * 4096


# pages near each other, of one part or another of a node, and anywhere
NUMBERS = st.one_of(
    st.integers(0, 40),
    st.integers(RAM_PAGE, RAM_PAGE + 600),
    st.sampled_from([0, 1, 15, 16, 255, 256, 4095, RAM_PAGE, (1 << 32) - 1, (1 << 52) - 1]),
    st.integers(0, (1 << 52) - 1),
)
relaxed = settings(deadline=None)
SEEDS = st.integers(0, 3)  # small, such that pages of zeros are frequent
CHANGES = st.dictionaries(NUMBERS, SEEDS, max_size=12)


def tree_of(seeds):
    return Tree.empty().update({number: content(seed) for number, seed in seeds.items()})


@relaxed
@given(CHANGES)
def test_the_root_is_that_of_the_definition(seeds):
    pages = {number: content(seed) for number, seed in seeds.items()}
    assert tree_of(seeds).root == plain_root(pages)


def test_the_empty_tree_has_the_root_of_zeros():
    assert Tree.empty().root == plain_zero(52) == ZEROS[52]
    assert Tree.empty().update({}) == Tree.empty()


def test_the_definition_does_not_change():
    """Roots are stored and sent to others: these numbers are for good."""
    assert ZEROS[0].hex() == "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"
    assert Tree.empty().root.hex() == (
        "aa808f81eafa2ed5bf457a598ea14695a16b0bb9c01ac7c755974f6c7c1850e3"
    )
    pages = {RAM_PAGE: content(1), RAM_PAGE + 1: content(2), 1 << 40: content(3)}
    root = Tree.empty().update(pages | {STATE_PAGE: content(4)}).root
    assert root == plain_root(pages | {STATE_PAGE: content(4)})
    assert root.hex() == "24651530f10e7636f25f92fd1d852d120f458a7432922078a3948db8c6f0a8a4"


@relaxed
@given(st.lists(CHANGES, max_size=8))
def test_step_by_step_is_the_same_as_from_scratch_and_steps_can_be_gone_back(steps):
    tree = Tree.empty()
    seeds: dict[int, int] = {}
    before = []
    for step in steps:
        before.append((tree, tree.root, dict(seeds)))
        tree = tree.update({number: content(seed) for number, seed in step.items()})
        seeds |= step
        assert tree.root == tree_of(seeds).root
    for earlier, root, known in before:
        assert earlier.root == root == tree_of(known).root
        undone = {number: content(known.get(number, 0)) for number in seeds}
        assert tree.update(undone).root == root


@relaxed
@given(CHANGES, st.randoms(use_true_random=False))
def test_the_order_of_pages_and_of_updates_does_not_matter(seeds, random):
    order = list(seeds.items())
    random.shuffle(order)
    at_once = Tree.empty().update((number, content(seed)) for number, seed in order)
    one_by_one = Tree.empty()
    for number, seed in order:
        one_by_one = one_by_one.update({number: content(seed)})
    assert at_once == one_by_one == tree_of(seeds)


@relaxed
@given(CHANGES, CHANGES)
def test_pages_that_go_to_zeros_leave_nothing(first, second):
    second = {number: seed for number, seed in second.items() if number not in first}
    tree = tree_of(first)
    more = tree.update({number: content(seed) for number, seed in second.items()})
    assert more.update(dict.fromkeys(second)).root == tree.root
    assert more.update(dict.fromkeys(second, ZERO_PAGE)).root == tree.root
    assert more.update(dict.fromkeys(first | second)) == Tree.empty()


def nodes():
    return blocks_in_use()["hashes"].used


def test_a_tree_of_n_pages_has_2_n_nodes_less_one_and_shares_what_did_not_change():
    before = nodes()
    tree = tree_of({RAM_PAGE + number: 1 for number in range(1024)} | {1 << 40: 2})
    assert nodes() - before == 2 * 1025 - 1
    changed = tree.update({RAM_PAGE: content(2)})
    assert nodes() - before == 2 * 1025 - 1 + 12  # the page, ten above it, and the top
    del tree
    assert nodes() - before == 2 * 1025 - 1
    gone = changed.update(dict.fromkeys(range(RAM_PAGE, RAM_PAGE + 1024)))
    assert gone == tree_of({1 << 40: 2})
    del changed
    assert nodes() - before == 1
    del gone
    assert nodes() == before


@relaxed
@given(CHANGES)
def test_hosts_without_instructions_for_it_make_the_same_hashes(seeds):
    numbers = array("Q", sorted(seeds))
    hashes = b"".join(sha256(content(seeds[number])) for number in numbers)
    assert Hashes.by_hand().put(numbers, hashes).find(52, 0) == tree_of(seeds).root


def test_a_feed_may_hand_out_the_same_buffer_again_and_again():
    buffer = bytearray(4096)

    def feed():
        for number in range(5):
            buffer[:] = content(number)
            yield number, memoryview(buffer)

    assert Tree.empty().update(feed()) == tree_of({number: number for number in range(5)})


@pytest.mark.parametrize("number", [-1, 1 << 52])
def test_a_page_outside_of_the_address_space_is_refused(number):
    with pytest.raises(ValueError, match="page numbers"):
        Tree.empty().update({number: content(1)})


@pytest.mark.parametrize("length", [0, 4095, 4097])
def test_a_page_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="page of"):
        Tree.empty().update({1: bytes(length)})


# proofs


@st.composite
def proofs(draw):
    seeds = draw(CHANGES)
    tree = tree_of(seeds)
    log2_size = draw(st.integers(3, 64))
    number = draw(st.sampled_from([*seeds, RAM_PAGE]) if seeds else NUMBERS)
    address = (number << 12 | draw(st.integers(0, 4095))) >> log2_size << log2_size
    page = content(seeds.get(number, 0)) if log2_size < 12 else None
    return tree, tree.proof(address, log2_size, page)


@relaxed
@given(proofs())
@example((Tree.empty(), Tree.empty().proof(0, 64)))
@example((tree_of({0: 1}), tree_of({0: 1}).proof(1 << 63, 63)))
def test_a_proof_holds_for_its_tree_and_survives_json(case):
    tree, proof = case
    assert proof.verify(tree.root)
    text = proof.to_json()
    again = Proof.from_json(text)
    assert again == proof
    assert again.verify(tree.root)
    assert again.to_json() == text


@relaxed
@given(proofs(), st.data())
def test_a_proof_with_anything_changed_does_not_hold(case, data):
    tree, proof = case
    what = data.draw(st.sampled_from(["root", "target", "sibling", "page", "data"]))
    root = tree.root

    def flipped(value):
        place = data.draw(st.integers(0, len(value) - 1))
        mask = data.draw(st.integers(1, 255))
        return value[:place] + bytes([value[place] ^ mask]) + value[place + 1 :]

    if what == "root":
        root = flipped(root)
    elif what == "target":
        proof = dataclasses.replace(proof, target=flipped(proof.target))
    elif what == "sibling" and proof.siblings:
        index = data.draw(st.integers(0, len(proof.siblings) - 1))
        siblings = list(proof.siblings)
        siblings[index] = flipped(siblings[index])
        proof = dataclasses.replace(proof, siblings=tuple(siblings))
    elif what == "page" and proof.page is not None:
        proof = dataclasses.replace(proof, page=flipped(proof.page))
    elif what == "data" and proof.data is not None:
        assert proof.verify(root, proof.data)
        assert not proof.verify(root, flipped(proof.data))
        return
    else:
        return
    assert not proof.verify(root)


@relaxed
@given(proofs(), st.data())
def test_a_proof_for_another_address_holds_only_where_two_halves_are_the_same(case, data):
    tree, proof = case
    lowest = max(proof.log2_size, 12)
    if lowest == 64:
        return
    log2_size = data.draw(st.integers(lowest, 63))
    ours = tree.hash_of(proof.address >> log2_size << log2_size, log2_size)
    moved = dataclasses.replace(proof, address=proof.address ^ 1 << log2_size)
    assert moved.verify(tree.root) == (proof.siblings[log2_size - lowest] == ours)


@pytest.mark.parametrize("log2_size", [3, 5, 11])
def test_the_proof_of_a_word_shows_that_word_and_no_other(log2_size):
    page = b"".join(number.to_bytes(8, "little") for number in range(512))
    tree = Tree.empty().update({RAM_PAGE: page, RAM_PAGE + 1: content(1)})
    length = 1 << log2_size
    for start in range(0, 4096, 1024 + length if length < 1024 else length):
        proof = tree.proof((RAM_PAGE << 12) + start // length * length, log2_size, page)
        assert proof.data == page[start // length * length :][:length]
        other = dataclasses.replace(proof, address=proof.address ^ length)
        assert proof.verify(tree.root, proof.data)
        assert not other.verify(tree.root, proof.data)


@pytest.mark.parametrize("log2_size", [12, 13, 16, 20])
def test_whoever_has_the_bytes_of_a_range_can_check_them(log2_size):
    tree = tree_of({RAM_PAGE + number: number % 5 for number in range(1 << 9)})
    data = b"".join(content(number % 5) for number in range(1 << 9))[: 1 << log2_size]
    data += bytes((1 << log2_size) - len(data))
    proof = tree.proof(RAM_PAGE << 12, log2_size)
    assert hash_range(data) == proof.target
    assert proof.verify(tree.root, data)
    assert not proof.verify(tree.root, data[:-1] + b"!")
    assert not proof.verify(tree.root, data[:-4096])


def test_the_tree_proves_no_page_that_it_has_not_hashed():
    tree = tree_of({RAM_PAGE: 1})
    for page in (None, content(2), ZERO_PAGE):
        with pytest.raises(ValueError, match="page of address"):
            tree.proof(RAM_PAGE << 12, 3, page)
    assert tree.proof(0, 3, ZERO_PAGE).verify(tree.root)


@pytest.mark.parametrize(
    ("address", "log2_size"), [(0, 2), (0, 65), (4, 3), (4096, 13), (-4096, 12), (1 << 64, 12)]
)
def test_a_range_that_is_no_subtree_has_no_proof(address, log2_size):
    with pytest.raises(ValueError, match=r"address|log2_size"):
        Tree.empty().proof(address, log2_size, ZERO_PAGE)


LIES = {
    "no object": lambda form: [form],
    "a field too many": lambda form: form | {"x": 1},
    "a field too few": lambda form: {key: form[key] for key in form if key != "target"},
    "another hash function": lambda form: form | {"hash": "md5"},
    "a sibling too few": lambda form: form | {"siblings": form["siblings"][1:]},
    "a sibling too many": lambda form: form | {"siblings": [*form["siblings"], None]},
    "a short hash": lambda form: form | {"target": "00"},
    "no hexadecimal": lambda form: form | {"target": "g" * 64},
    "another size": lambda form: form | {"log2_size": 4},  # whose place is no multiple of 16
    "a size of a page": lambda form: form | {"log2_size": 12},
    "no size": lambda form: form | {"log2_size": 300},
    "an odd address": lambda form: form | {"address": "0x80000001"},
    "a large address": lambda form: form | {"address": "0x1" + 16 * "0"},
    "a short page": lambda form: form | {"page": form["page"][:-8]},
    "no page": lambda form: form | {"page": None},
}


@pytest.mark.parametrize("lie", LIES)
def test_json_is_refused_with(lie):
    tree = tree_of({RAM_PAGE: 1, RAM_PAGE + 1: 2})
    form = json.loads(tree.proof((RAM_PAGE << 12) + 8, 3, content(1)).to_json())
    changed = LIES[lie](form)
    with pytest.raises(ValueError, match=r".+"):
        Proof.from_json(json.dumps(changed))


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000, b"\xff", "1"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="not a proof"):
        Proof.from_json(text)
