"""Metrics: they parse, are what is documented, count what happened, and rules and dashboard name real ones."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.stage import Stage, guest
from tests.cli.test_crashes import until
from tests.docs.blocks import ROOT
from tests.operator.living import Agent, living
from tests.web.client import Client
from trueup.edges.metrics import Metrics, of_the_process
from trueup.model.gate import Denied, Refusal
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Record

RULES = ROOT / "deploy" / "prometheus" / "trueup.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "trueup.json"
PROCESS = "trueup_process_"


def families() -> dict[str, tuple[str, str]]:
    """Every metric with its type and its text, under the name that a query uses."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in (*of_the_process().collect(), *Metrics("lab").registry.collect())
    }


def samples(text: str) -> dict[str, float]:
    """All samples, without the cluster's name, which all but those of the process have."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            once = sample.name.startswith(PROCESS) or sample.name == "trueup_build_info"
            assert sample.labels.pop("cluster", "") == ("" if once else "lab"), sample
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def named(expression: str) -> set[str]:
    """The metrics of a query, without a histogram's endings."""
    names = set(re.findall(r"\btrueup_[a-z_]+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_the_page_says_what_there_is() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(trueup_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    documented = {name: (kind, text) for name, kind, _, text in rows}
    assert documented == {name: about for name, about in families().items() if not name.startswith(PROCESS)}


def test_a_scrape_counts_what_happened(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    assert found["trueup_leader"] == found["trueup_epoch"] == 1
    assert found["trueup_phase{phase=leading}"] == 1
    assert found["trueup_phase{phase=recovering}"] == 0
    assert found["trueup_guests{sync=in_sync}"] == found["trueup_guests_planned{bucket=unchanged}"] == 2
    assert found["trueup_operations_started_total{kind=clone}"] == 1
    assert found["trueup_operations_ended_total{kind=clone,reason=task_ok,state=succeeded}"] == 1
    assert found["trueup_operation_seconds_count{kind=start}"] == 2
    assert found["trueup_operations_in_flight_oldest_seconds"] == 0
    assert found["trueup_passes_total{result=made}"] >= 1
    assert (
        found["trueup_plan_seconds_count"]
        == found["trueup_pass_seconds_count"]
        == found["trueup_passes_total{result=made}"]
    )
    assert found["trueup_plan_seconds_sum"] <= found["trueup_pass_seconds_sum"]
    assert found["trueup_pve_calls_total{call=send}"] == 4
    assert found["trueup_journal_head_seq"] == found["trueup_journal_records_total"] + 1  # the epoch's own record
    assert found["trueup_journal_append_seconds_count"] > 0
    assert found["trueup_journal_appends_waiting"] == 0
    head = client.get("/v1/status").json["head"]
    assert found[f"trueup_journal_head_info{{hash={head['hash']},seq={head['seq']}}}"] == 1
    assert [name for name in found if name.startswith("trueup_journal_head_info")] == [
        f"trueup_journal_head_info{{hash={head['hash']},seq={head['seq']}}}"
    ]
    assert all(name.startswith("trueup_") for name in found)


def test_an_agent_that_cannot_look_says_so(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    with living(Agent(stage)) as agent:
        client = Client.of(agent)
        until(lambda: agent.said("pass_ended", "1 unchanged"), 60)
        made = samples(client.get("/metrics").text)["trueup_passes_total{result=made}"]
        stage.manifest("kind: [", "broken.yaml")
        until(lambda: samples(client.get("/metrics").text).get("trueup_passes_total{result=failed}", 0) >= 1, 60)
        found = samples(client.get("/metrics").text)
        assert found["trueup_alarms_total"] >= 1
        assert found["trueup_passes_total{result=made}"] >= made
        problems = client.get("/v1/status").json["problems"]
        assert any("broken.yaml" in problem for problem in problems), problems
        (stage.folder / "manifests" / "broken.yaml").unlink()
        until(lambda: client.get("/v1/status").json["problems"] == [], 60)


def test_refusals_are_counted_with_those_that_were_not_written_one_by_one() -> None:
    metrics = Metrics("lab")
    event = Denied(refusal=Refusal.REPLAY, text="again", times=7)
    record = Record(seq=1, epoch=Epoch(1), record_id="r", at_ms=1, op_id=OpId(""), event=event, prev_hash="", hash="h")
    metrics.appending()
    metrics.appended([record, record], 0.1)
    assert metrics.registry.get_sample_value("trueup_gate_refusals_total", {"reason": "replay"}) == 14
    assert metrics.registry.get_sample_value("trueup_journal_records_total") == 2


def test_rules_name_metrics_that_there_are() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert named(rule["expr"]), rule
        assert named(rule["expr"]) <= families().keys(), rule
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_the_dashboard_names_metrics_that_there_are() -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= len(board["panels"]) > 10
    for expression in expressions:
        assert named(expression), expression
        assert named(expression) <= families().keys(), expression
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_rules_and_metrics(client: Client) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    scraped = client.get("/metrics").text
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
