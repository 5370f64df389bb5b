"""The processor benchmark: its guests do the same everywhere, its rows say what was measured."""

import json
import sys
from contextlib import nullcontext

import pytest

from orchestra.bench import cpu, kernels, qemu
from orchestra.bench.big import make_big
from orchestra.bench.cpu import LINES, CpuOptions, bench_cpu, row_names
from orchestra.bench.kernels import GEOMEAN, KERNELS, Measured, kernel_config, run_machine
from orchestra.bench.loads import BOOT, LOADS, load_config
from orchestra.bench.qemu import run_qemu_kernel, run_qemu_linux
from orchestra.errors import BadConfig, BadImage, GuestError
from orchestra.machine import Halted, Machine

SCALE = 0.003
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


def announce(_):
    return nullcontext()


@every_kernel
def test_a_kernel_prints_the_same_on_qemu(tmp_path, kernel):
    elf, code = kernel.write(tmp_path, SCALE), kernel.write_code(tmp_path)
    ours, theirs = run_machine(kernel_config(elf, code)), run_qemu_kernel(elf, code)
    assert ours.output == theirs.output
    assert len(ours.output) == 16
    assert int(ours.output, 16) != 0
    assert ours.instructions > 200_000


@every_kernel
def test_a_kernel_ends_in_the_same_state_when_it_is_run_in_slices(tmp_path, kernel):
    config = kernel_config(kernel.write(tmp_path, 0.0002), kernel.write_code(tmp_path))
    digests = []
    for slice_cycles in (1 << 40, 9973):
        with Machine.create(config) as machine:
            while not isinstance(machine.run(max_cycles=slice_cycles), Halted):
                pass
            digests.append(machine.digest())
    assert digests[0] == digests[1]


def test_kernels_run_in_supervisor_mode_on_pages(tmp_path):
    with Machine.create(kernel_config(KERNELS[0].write(tmp_path, 1), None)) as machine:
        machine.run(max_cycles=10_000_000)
        assert machine.registers["privilege"] == 1
        assert machine.registers["satp"] >> 60 == 8


def test_more_rounds_are_more_work(tmp_path):
    few, many = (
        run_machine(kernel_config(KERNELS[0].write(tmp_path, scale), None)).instructions
        for scale in (0.002, 0.004)
    )
    assert many == pytest.approx(2 * few, rel=0.1)


def test_the_generated_code_is_large_and_the_same_for_everybody():
    assert len(make_big()) > 500_000
    assert make_big() == make_big() != make_big(seed=2)


def test_a_pass_of_the_generated_code_visits_most_of_it(tmp_path):
    big = KERNELS[-1]
    with Machine.create(kernel_config(big.write(tmp_path, 1e-9), big.write_code(tmp_path))) as m:
        pages = {int(line.split()[3], 16) >> 12 for line in m.trace(max_cycles=400_000)}
    assert len([page for page in pages if page >= 0x81000]) > 120  # of about 150


def test_a_program_without_the_words_for_a_kernel_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "PROGRAM", tmp_path / "other.elf")
    (tmp_path / "other.elf").write_bytes(bytes(64))
    with pytest.raises(BadImage):
        KERNELS[0].write(tmp_path, 1)


def test_rows_compare_with_the_peer_in_the_same_run():
    six = CpuOptions(peer="qemu", runs=2, scale=SCALE, rows=(*GEOMEAN, "matmul-exact"))
    report = bench_cpu(six, announce)
    rows = {row.name: row for row in report.rows}
    assert set(rows) == {
        f"{kind}/{name}"
        for kind in ("mips", "qemu", "ratio-to-qemu")
        for name in (*GEOMEAN, "matmul-exact", "geomean")
    } - {"qemu/geomean"}
    assert {row.unit for row in report.rows} == {"MIPS", "x"}
    assert all(len(row.values) == 2 and row.value > 0 for row in report.rows)
    lines = {name: row.at_least for name, row in rows.items() if row.at_least is not None}
    assert lines == {"ratio-to-qemu/matmul-exact": 6, "ratio-to-qemu/geomean": 1.75}
    assert report.host["engine"] in LINES
    assert report.host["qemu"][0].isdigit()


def test_without_a_peer_there_is_nothing_to_be_below():
    report = bench_cpu(CpuOptions(runs=1, scale=SCALE, rows=("fib", "big")), announce)
    assert [row.name for row in report.rows] == ["mips/fib", "mips/big"]
    assert report.ok


def test_guests_that_disagree_are_an_error(monkeypatch):
    monkeypatch.setattr(cpu, "run_qemu_kernel", lambda *_: Measured(1.0, 0, b"something else"))
    with pytest.raises(GuestError, match="something else"):
        bench_cpu(CpuOptions(peer="qemu", runs=1, scale=SCALE, rows=("fib",)), announce)


def test_a_guest_that_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(GuestError, match="qemu-system-riscv64 exited with"):
        run_qemu_kernel(tmp_path / "nothing.elf", None)


@pytest.mark.parametrize("name", ["fork-exec", "fork-exec-static"])
def test_debian_runs_a_load_and_powers_itself_off_here_and_there(tmp_path, name):
    (load,) = (load for load in LOADS if load.name == name)
    config = load_config(tmp_path, load)
    ours, theirs = run_machine(config), run_qemu_linux(config)
    assert cpu._results(ours) == cpu._results(theirs) == f"= 200; = {name} is done".encode()


def test_python_in_the_guest_computes_what_python_computes(tmp_path):
    (load,) = (load for load in LOADS if load.name == "python-loop")
    total = 0
    for i in range(1_000_000):
        total = (total * 31 + i) % 1_000_003
    output = cpu._results(run_machine(load_config(tmp_path, load)))
    assert output == b"= %d; = python-loop is done" % total


def test_what_booting_takes_is_not_counted_to_a_load(monkeypatch, tmp_path):
    seconds = {BOOT.name: (1.0, 2.0), "gzip": (1.5, 4.0)}
    run = {"name": BOOT.name}

    def load(_, load):
        run["name"] = load.name

    monkeypatch.setattr(cpu, "load_config", load)
    ours = 3_000_000
    monkeypatch.setattr(
        cpu,
        "run_machine",
        lambda *_: Measured(seconds[run["name"]][0], ours * len(run["name"]), b"= x"),
    )
    monkeypatch.setattr(
        cpu, "run_qemu_linux", lambda _: Measured(seconds[run["name"]][1], 0, b"= x")
    )
    monkeypatch.setattr(qemu, "qemu_version", lambda: "1")
    report = bench_cpu(CpuOptions(peer="qemu", runs=1, rows=("boot", "gzip")), announce)
    values = {row.name: row.value for row in report.rows}
    assert values["boot/debian"] == 1.0
    assert values["ratio-to-qemu/boot"] == 2.0
    assert values["ratio-to-qemu/gzip"] == 4.0
    assert values["mips/gzip"] == 0  # as many instructions as the boot: names of four letters


def test_rows_that_do_not_exist_are_refused():
    with pytest.raises(BadConfig, match="fib"):
        CpuOptions(rows=("fub",))
    assert len(row_names()) == len(set(row_names()))


def test_without_qemu_the_package_is_named(monkeypatch, call):
    monkeypatch.setenv("PATH", "/nowhere")
    status, out, err = call("bench", "cpu", "--against", "qemu", "--rows", "fib")
    assert (status, out) == (2, "")
    assert "apt install qemu-system-misc" in err


def test_the_command_prints_json_and_says_which_rows_are_below_their_lines(call, monkeypatch):
    monkeypatch.setitem(LINES["auto"], "fib", 1e9)
    arguments = ["--against", "qemu", "--rows", "fib", "--runs", 1, "--scale", SCALE]
    status, out, err = call("bench", "cpu", *arguments, "--json")
    assert status == 1
    document = json.loads(out)
    assert document["benchmark"] == "cpu"
    assert [row["name"] for row in document["rows"]] == [
        "mips/fib",
        "qemu/fib",
        "ratio-to-qemu/fib",
    ]
    assert "below their lines: ratio-to-qemu/fib" in err


def test_the_command_prints_a_table(call):
    status, out, _ = call("bench", "cpu", "--rows", "fib", "--runs", 1, "--scale", SCALE)
    assert status == 0
    assert "mips/fib" in out


def test_without_the_plotting_library_the_extra_is_named_at_once(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = call("bench", "cpu", "--plot", tmp_path / "chart.png")
    assert (status, out) == (2, "")
    assert "orchestra[plot]" in err
