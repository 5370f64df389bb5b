"""The ledger's logic against a model of it in ten lines, and against anything at all."""

from ctypes import CDLL
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_native import ADVANCE, INSPECT, Ledger, build

MAX = 2**64 - 1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CDLL:
    return build(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def ledger(library: CDLL) -> Ledger:
    return Ledger(library)


NAMES = st.sampled_from(["alice", "bob", "carol", "d" * 23])
AMOUNTS = st.one_of(st.integers(0, 50), st.sampled_from([MAX, MAX - 1, MAX + 1, 2**63]))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["mint", "burn"]), NAMES, AMOUNTS),
        st.tuples(st.just("transfer"), NAMES, NAMES, AMOUNTS),
    ),
    max_size=30,
)


def apply(balances: dict[str, int], operation: str, *names: str, amount: int) -> bool:
    """What the ledger must do; returns whether it accepts."""
    if not 0 < amount <= MAX:
        return False
    if operation == "mint":
        if sum(balances.values()) + amount > MAX:
            return False
        balances[names[0]] = balances.get(names[0], 0) + amount
        return True
    if balances.get(names[0], -1) < amount:
        return False
    balances[names[0]] -= amount
    if operation == "transfer":
        balances[names[1]] = balances.get(names[1], 0) + amount
    return True


@given(OPERATIONS)
def test_any_operations_end_in_the_state_the_model_ends_in(
    library: CDLL, operations: list[tuple[Any, ...]]
) -> None:
    ledger = Ledger(library)
    balances: dict[str, int] = {}
    accepted: list[bytes] = []
    for words in operations:
        line = " ".join(str(word) for word in words)
        answer = ledger.advance(line)
        if apply(balances, *words[:-1], amount=words[-1]):
            accepted.append(f"{len(accepted) + 1} {line}".encode())
            assert (answer.verdict, answer.outputs, answer.reports) == (
                "accepted",
                [accepted[-1]],
                [],
            )
        else:
            assert (answer.verdict, answer.outputs, len(answer.reports)) == ("rejected", [], 1)
    listed = "".join(f"{name} {balance}\n" for name, balance in balances.items()).encode()
    assert b"".join(ledger.inspect("accounts").reports) == listed
    assert ledger.inspect("total").reports == [str(sum(balances.values())).encode()]
    assert ledger.inspect("count").reports == [str(len(balances)).encode()]
    newest_first = b"".join(line + b"\n" for line in reversed(accepted))
    assert b"".join(ledger.inspect("history 100").reports) == newest_first
    for name, balance in balances.items():
        assert ledger.inspect(f"balance {name}").reports == [str(balance).encode()]


COMMANDS = ["mint", "burn", "transfer", "fill", "balance", "accounts", "echo", "fail", "halt"]
WORDS = st.sampled_from([*COMMANDS, "a", "b", "-1", "0", "7"])
# not what takes as long as it is told to: hypothesis also tries what it reads in our tests
BYTES = st.binary(max_size=200).filter(
    lambda line: not {b"spin", b"flood", b"fill"} & {*line.split()}
)
SENTENCES = st.lists(WORDS, max_size=5).map(lambda words: " ".join(words).encode())


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), st.one_of(BYTES, SENTENCES)), max_size=8))
def test_any_bytes_are_answered_and_a_rejection_changes_nothing(
    library: CDLL, requests: list[tuple[bool, bytes]]
) -> None:
    ledger = Ledger(library)
    for advancing, request in requests:
        before = [ledger.inspect(line).reports for line in ("accounts", "total", "history 9")]
        answer = ledger.advance(request) if advancing else ledger.inspect(request)
        after = [ledger.inspect(line).reports for line in ("accounts", "total", "history 9")]
        if not advancing or answer.verdict != "accepted":
            assert before == after
        if answer.verdict == "rejected":
            assert len(answer.reports) == 1
            assert answer.reports[0]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ("", "empty request"),
        ("   ", "empty request"),
        ("\n", "empty request"),
        ("steal alice 5", "unknown command: steal"),
        ("balance alice", "not an advance: balance"),
        ("mint alice", "usage: mint NAME AMOUNT"),
        ("mint alice 1 2", "usage: mint NAME AMOUNT"),
        ("mint a b c d", "too many words"),
        ("mint alice 0", "number too small: 0"),
        ("mint alice -1", "not a number: -1"),
        ("mint alice 0x10", "not a number: 0x10"),
        (f"mint alice {MAX + 1}", f"number too large: {MAX + 1}"),
        (f"mint alice {MAX}", "the total would overflow"),
        ("burn nobody 1", "no such account: nobody"),
        ("transfer rich alice 11", "insufficient balance: rich"),
        (f"mint {'x' * 24} 1", f"name longer than 23 bytes: {'x' * 24}"),
        (f"burn {'x' * 100} 1", f"name longer than 23 bytes: {'x' * 64}"),
        ("mint al\u00efce 1", "not printable ASCII"),
        ("mint alice 1\0", "not printable ASCII"),
        ("fill 65536 1", "no room for them"),
        ("fail\nnow", "usage: fail MESSAGE"),
        (f"halt {2**31}", f"number too large: {2**31}"),
    ],
)
def test_a_bad_advance_is_rejected_with_the_reason(ledger: Ledger, request_: str, why: str) -> None:
    ledger.advance("mint rich 10")
    answer = ledger.advance(request_)
    assert (answer.verdict, answer.reports, answer.outputs) == ("rejected", [why.encode()], [])


@pytest.mark.parametrize("question", ["mint alice 1", "fill 1 1"])
def test_a_question_cannot_change_the_state(ledger: Ledger, question: str) -> None:
    assert ledger.inspect(question).verdict == "rejected"


def test_spaces_and_a_last_newline_do_not_matter(ledger: Ledger) -> None:
    assert ledger.advance("  mint   alice  5 \n").outputs == [b"1 mint alice 5"]


def test_failing_hands_over_the_message_as_it_is(ledger: Ledger) -> None:
    answer = ledger.advance(b"fail \0 all\xff of it\n")
    assert (answer.verdict, answer.exception) == ("exception", b"\0 all\xff of it\n")
    assert ledger.inspect("fail").verdict == "exception"


def test_an_echo_is_exact_whatever_the_bytes(ledger: Ledger) -> None:
    data = bytes(range(256)) * 8191
    assert ledger.inspect(b"echo " + data).reports == [data]


def test_halt_and_crash_are_left_to_the_machine(ledger: Ledger) -> None:
    assert (ledger.advance("halt 7").verdict, ledger.advance("halt 7").code) == ("halt", 7)
    assert ledger.inspect("crash").verdict == "crash"


def test_65536_accounts_fit_and_the_next_does_not(ledger: Ledger) -> None:
    assert ledger.advance("fill 65535 2").outputs == [b"filled 65535"]
    assert ledger.advance("mint last 1").verdict == "accepted"
    answer = ledger.advance("mint one-too-many 1")
    assert (answer.verdict, answer.reports) == (
        "rejected",
        [b"no room for another account: one-too-many"],
    )
    assert ledger.inspect("balance account-65534").reports == [b"2"]
    reports = ledger.inspect("accounts").reports
    assert b"".join(reports).count(b"\n") == 65536
    assert all(len(report) <= 65536 and report.endswith(b"\n") for report in reports)


def test_history_keeps_the_last_4096_operations(ledger: Ledger) -> None:
    for amount in range(1, 4099):
        ledger.advance(f"mint alice {amount}")
    lines = b"".join(ledger.inspect("history 5000").reports).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (4096, b"4098 mint alice 4098", b"3 mint alice 3")
    assert ledger.inspect("history 1").reports == [b"4098 mint alice 4098\n"]


def test_the_exercises_do_what_they_say(ledger: Ledger) -> None:
    assert ledger.inspect("spin 1000").verdict == "accepted"
    assert ledger.inspect("flood 3").reports == [b"flood 0", b"flood 1", b"flood 2"]
    assert ledger.inspect("progress 4").progress == [250, 500, 750, 1000]
    assert ledger.inspect("page 4096").verdict == "accepted"
    assert ledger.inspect("page 4097").reports == [b"number too large: 4097"]


@pytest.mark.parametrize("kind", [ADVANCE, INSPECT])
def test_touching_a_page_reads_and_writes_that_page(library: CDLL, kind: int) -> None:
    ledger = Ledger(library)
    ledger.advance("page 3") if kind == ADVANCE else ledger.inspect("page 3")
    pages = ledger.memory[-4096 * 4096 :]
    assert [pages[4096 * n : 4096 * n + 4096].strip(b"\0") for n in range(4)] == [
        b"\1",
        b"\2",
        b"\3",
        b"",
    ]
