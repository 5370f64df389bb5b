"""Metrics are what the table says, in the form that Prometheus's own linter asks for."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestra.http.metrics import METRICS
from tests.http.test_app import LEDGER
from tests.observability import table

pytestmark = pytest.mark.anyio
UNITS = ("milliseconds", "minutes", "hours", "ms", "kilobytes", "megabytes", "mb", "percent")
WORDS = ("gauge", "counter", "histogram", "summary", "metric")


@pytest.fixture
async def families(client):
    await client.post(f"{LEDGER}/advance", content=b"mint bob 1")
    await client.post(f"{LEDGER}/advance", content=b"burn carol 1")
    await client.post(f"{LEDGER}/inspect", content=b"total")
    await client.get("/nothing")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return list(text_string_to_metric_families(response.text))


def full_name(family):
    return f"{family.name}_total" if family.type == "counter" else family.name


async def test_the_document_has_every_metric_and_no_other(families):
    found = {}
    for family in families:
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        found[full_name(family)] = [family.type, labels, family.documentation]
    ours = {name: row for name, row in found.items() if name.startswith("orchestra_")}
    documented = {
        name: [kind, set(labels.split()), text]
        for name, (kind, labels, text) in table("Metrics").items()
    }
    assert documented == ours
    assert set(METRICS) == set(ours)
    assert {name.partition("_")[0] for name in set(found) - set(ours)} == {"process"}
    assert "process_resident_memory_bytes" in found


async def test_what_was_done_is_counted(families):
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["orchestra_inputs_total", "ledger", "accepted"] == 1
    assert samples["orchestra_inputs_total", "ledger", "rejected"] == 1
    assert samples["orchestra_inputs_total", "ledger", "halted"] == 0  # and not absent
    assert samples["orchestra_inspects_total", "ledger"] == 1
    assert samples["orchestra_inspect_seconds_count", "ledger"] == 1
    assert samples["orchestra_workers",] == 2
    assert samples["orchestra_input_seconds_count", "ledger", "serving"] == 2
    advance = "/applications/{name}/advance"
    assert samples["orchestra_http_requests_total", "200", advance] == 2
    assert samples["orchestra_http_request_seconds_count", advance] == 2
    assert samples["orchestra_http_requests_total", "404", ""] == 1
    assert (
        samples["orchestra_disk_free_bytes", "ledger"] > samples["orchestra_disk_bytes", "ledger"]
    )


async def test_the_rules_of_promtool_are_kept(families):
    for family in families:
        assert family.documentation
        words = family.name.split("_")
        assert family.name == family.name.lower()
        assert not set(words) & {*UNITS, *WORDS}, family.name
        for reserved in ("_total", "_sum", "_count", "_bucket"):
            assert not family.name.endswith(reserved)
        for sample in family.samples:
            assert family.type == "histogram" or "le" not in sample.labels
            assert all(name.islower() for name in sample.labels)


async def test_histograms_can_be_summed_and_are_cumulative(families):
    bounds = set()
    for family in families:
        if family.type != "histogram":
            continue
        assert family.name.endswith("_seconds")
        series = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                labels = {**sample.labels}
                bound = float(labels.pop("le"))
                series.setdefault(tuple(labels.items()), []).append((bound, sample.value))
        for found in series.values():
            assert [bound for bound, _ in found] == sorted(bound for bound, _ in found)
            assert [count for _, count in found] == sorted(count for _, count in found)
            assert found[-1][0] == math.inf
            bounds.add(tuple(bound for bound, _ in found))
    assert len(bounds) == 1


async def test_what_clients_send_makes_no_new_series(client):
    for n in range(20):
        await client.get(f"/nothing/{n}")
        await client.get(f"/applications/nobody-{n}")
    text = (await client.get("/metrics")).text
    assert "nobody" not in text
    (requests,) = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == "orchestra_http_requests"
    ]
    counts = {tuple(sample.labels.values()): sample.value for sample in requests.samples}
    assert counts["404", ""] == counts["404", "/applications/{name}"] == 20
