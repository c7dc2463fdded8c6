"""Downloads of the storage of an account, as a process: complete, repeated, selected, and with faults."""

import json
import shutil
from collections import Counter
from datetime import UTC, datetime

import aiohttp
import pytest

from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.simulator.v2.documents import order_status
from support.storage_account import LISTS, StorageAccount

ASSETS = 40


@pytest.fixture
async def account(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=ASSETS))
    options = SimulatorOptions(max_recorded_requests=None, strict_storage_auth=True)
    async with Simulator(simulated, options) as simulator:
        yield StorageAccount(tmp_path, simulator)


def is_fulfilled(simulator, order_id):
    deliveries = simulator.account.deliveries
    return order_status(deliveries, deliveries.find(IdKind.ORDER, order_id).job) == "FULFILLED"


def objects(account):
    """Return the paths of the stored objects that were requested."""
    return [record.path for record in account.simulator.requests if record.endpoint == "object"]


async def test_run_downloads_every_file_once_and_a_rerun_signs_nothing(account):
    result = await account.run()
    assert result.code == 0, result
    assert account.missing_files() == []
    requested = objects(account)
    assert len(requested) == len(set(requested)) == len(list(account.simulator.expected_files()))
    foreign = {href.rpartition("/")[2] for href in account.simulator.foreign_hrefs()}
    assert not [path for path in requested if path.rpartition("/")[2] in foreign]
    first = account.count_requests()
    assert all(first[name] == 1 for name in LISTS)
    assert first["search"] < 12

    again = await account.run()
    assert again.code == 0, again
    assert again.document["outputs"]["completed"] == 0, again
    counts = account.count_requests()
    assert counts["download_url"] == counts["object"] == 0
    assert counts["search"] + counts["items"] <= 4  # deliveries whose items can still appear


async def test_plan_and_run_request_pages_and_not_single_deliveries(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=1_500, items=(1, 1), item_assets=(1, 1)))
    async with Simulator(simulated, SimulatorOptions(max_recorded_requests=None)) as simulator:
        account = StorageAccount(tmp_path, simulator)
        planned = await account.bulkdl("plan", "--format", "json")
        assert planned.code == 0, planned
        counts = account.count_requests()
        seen = planned.document["containers"]["seen"]
        deliveries = simulator.account.deliveries
        items = sum(len(deliveries.items(number)) for number in deliveries.collections)
        empty = sum(not deliveries.items(number) for number in deliveries.collections)
        nameless = sum(
            bool(delivery.original and not delivery.name) for delivery in deliveries.iter_deliveries()
        )
        pages = 1 + seen // 100
        assert seen > 1_500
        assert counts["login"] == 1
        assert all(counts[name] <= pages for name in LISTS), counts
        # A search has at most 100 collections, and its last page can be incomplete.
        assert counts["search"] <= pages + items // 100, counts
        assert counts["items"] <= empty < 5, counts
        assert counts["download_url"] <= nameless < 5, counts

        first = await account.run("--only", "original", "--max-transfer", "1")
        assert first.code == 8, first
        counts = account.count_requests()
        assert all(counts[name] <= pages for name in LISTS), counts
        assert counts["search"] + counts["items"] < 60, counts


async def test_run_stores_the_documents_as_up42_returned_them(account):
    assert (await account.run("--only", "metadata")).code == 0
    deliveries = account.simulator.account.deliveries
    collected = [each for each in deliveries.iter_deliveries() if each.collection_id]
    for delivery in collected:
        folder = account.output / delivery.workspace_id / delivery.collection_id
        collection = json.loads((folder / "collection.json").read_text())
        assert collection["id"] == delivery.collection_id
        assert collection["stac_version"] == "1.0.0"
        items = [json.loads(path.read_text()) for path in folder.glob("*/item.json")]
        assert {item["id"] for item in items} == {item.id for item in deliveries.items(delivery.number)}
    singles = list(account.output.glob("*/assets/*/asset.json"))
    assert {json.loads(path.read_text())["id"] for path in singles} == {path.parent.name for path in singles}


async def test_run_with_a_wrong_password_exits_with_7_and_hides_it(account):
    result = await account.run(UP42_PASSWORD="canary-password")
    assert result.code == 7, result
    assert "check the user name and the password" in result.out + result.err
    assert "canary-password" not in result.out + result.err
    assert account.count_requests() == {"login": 1}


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_run_without_the_list_of_assets_exits_with_0_and_says_it_once(account, status):
    body = f'{{"title": "Gone", "status": {status}}}'
    rule = {"fault": "status", "status": status, "body": body, "endpoint": "assets"}
    account.simulator.faults = Faults.from_rules(rule)
    result = await account.run()
    assert result.code == 0, result
    events = [event["event"] for event in result.events]
    assert events.count("assets.not_offered") == 1
    in_collections = [file for file in account.simulator.expected_files() if file.collection_id]
    listed = {file.asset_id for file in in_collections if any(place.roles for place in file.places)}
    assert account.missing_files(lambda file: file.asset_id in listed) == []


@pytest.mark.parametrize(
    "kinds", ["original", "asset", "preview,metadata"], ids=["originals", "assets", "small files"]
)
async def test_run_downloads_the_selected_kinds_only(account, kinds):
    result = await account.run("--only", kinds)
    assert result.code == 0, result
    assert {row["kind"] for row in result.document["counts"]} == set(kinds.split(","))
    if kinds == "original":
        assert account.missing_files(lambda file: file.is_original and not file.places[1:]) == []
        assert account.count_requests()["items"] <= 4


async def test_run_of_an_order_a_job_or_a_collection_downloads_only_that(account):
    files = list(account.simulator.expected_files())
    order_id = next(file.order_id for file in files if file.order_id)
    job_id = next(file.job_id for file in files if file.job_id)
    collection_id = next(file.collection_id for file in reversed(files) if file.collection_id)
    for flags, attribute, value in (
        (("--order", order_id), "order_id", order_id),
        (("--job", job_id), "job_id", job_id),
        (("--collection", collection_id), "collection_id", collection_id),
    ):
        shutil.rmtree(account.output, ignore_errors=True)
        account.simulator.requests.clear()
        result = await account.run(*flags)
        assert result.code == 0, result
        assert account.missing_files(lambda file, a=attribute, v=value: getattr(file, a) == v) == []
        expected = {file.path for file in files if getattr(file, attribute) == value}
        assert set(objects(account)) == {f"/{path.lstrip('/')}" for path in expected}
    assert not [record for record in account.simulator.requests if record.endpoint in LISTS]


async def test_run_of_a_missing_collection_exits_with_4(account):
    result = await account.run("--collection", "00000000-0000-4000-8000-000000000000")
    assert result.code == 4, result
    assert "delivery 00000000" in result.out + result.err


async def test_run_since_last_revisits_deliveries_whose_items_were_not_ready(account):
    assert (await account.run("--since", "last")).code == 0
    account.simulator.evolve_storage(settled=True)
    # Without a time, the jobs have finished before the first run, so that their results count as old.
    assert account.missing_files(lambda file: not file.job_id) != []
    result = await account.run("--since", "last")
    assert result.code == 0, result
    assert account.missing_files(lambda file: not file.job_id) == []


async def test_run_since_last_downloads_the_results_of_jobs_that_have_finished_since(account):
    assert (await account.run("--since", "last")).code == 0
    before = {file.asset_id for file in account.simulator.expected_files()}
    account.simulator.evolve_storage(settled=True, settled_at=datetime.now(UTC))
    results = [
        file for file in account.simulator.expected_files() if file.job_id and file.asset_id not in before
    ]
    assert results
    result = await account.run("--since", "last")
    assert result.code == 0, result
    assert account.missing_files() == []
    account.count_requests()
    again = await account.run("--since", "last")
    assert again.code == 0, again
    counts = account.count_requests()
    assert counts["download_url"] == counts["object"] == 0


async def test_run_since_last_does_not_download_old_results_while_the_jobs_are_listed(account):
    slow = {"fault": "latency", "seconds": 0.5, "endpoint": "processing_jobs"}
    account.simulator.faults = Faults.from_rules(slow)
    result = await account.run("--since", "2026-11-01", "--only", "asset")
    assert result.code == 0, result
    assert result.document["outputs"]["completed"] == 0, result


async def test_run_with_a_status_since_last_downloads_orders_that_are_fulfilled_later(tmp_path):
    # The last order has three deliveries. The first of them exist before the order is fulfilled.
    simulated = SimulatedAccount(storage=StorageOptions(assets=45))
    async with Simulator(simulated, SimulatorOptions()) as simulator:
        account = StorageAccount(tmp_path, simulator)
        open_orders = {
            deliveries_order
            for deliveries_order in (file.order_id for file in simulator.expected_files())
            if deliveries_order and not is_fulfilled(simulator, deliveries_order)
        }
        assert open_orders
        args = ("--status", "FULFILLED", "--since", "last", "--only", "original")
        assert (await account.run(*args)).code == 0
        early = {file.asset_id for file in simulator.expected_files() if file.order_id in open_orders}
        assert not [
            path for path in simulator.requests if path.endpoint == "object" and path.path[-36:] in early
        ]
        simulator.evolve_storage(assets=60, settled=True)
        result = await account.run(*args)
        assert result.code == 0, result
        assert account.missing_files(lambda file: file.is_original and file.asset_id in early) == []


async def test_run_links_an_original_that_was_downloaded_before_its_collection_existed(account):
    assert (await account.run()).code == 0
    deliveries = account.simulator.account.deliveries
    alone = {
        delivery.original.id
        for delivery in deliveries.iter_deliveries()
        if delivery.original and delivery.collection_id is None
    }
    account.simulator.evolve_storage(settled=True)
    account.count_requests()
    result = await account.run()
    assert result.code == 0, result
    assert account.missing_files() == []
    collected = [
        file
        for file in account.simulator.expected_files()
        if file.asset_id in alone and file.collection_id is not None
    ]
    assert collected
    linked = [row["outputs"] for row in result.document["counts"] if row["reason"] == "linked"]
    assert sum(linked) >= len(collected)
    requested = [record.path for record in account.simulator.requests]
    assert not [path for path in requested for file in collected if file.asset_id in path]


async def test_run_signs_each_asset_once(account):
    files = list(account.simulator.expected_files())
    deliveries = list(account.simulator.account.deliveries.iter_deliveries())
    assert any(len(file.places) > 1 for file in files)
    assert any(delivery.original and not delivery.name for delivery in deliveries)  # the URL has its name
    assert (await account.run()).code == 0
    signed = Counter(
        record.path for record in account.simulator.requests if record.endpoint == "download_url"
    )
    assert set(signed.values()) == {1}
    assert len(signed) == len(files)


async def test_run_downloads_new_deliveries_of_a_growing_account(account):
    assert (await account.run()).code == 0
    account.count_requests()
    account.simulator.evolve_storage(assets=ASSETS + 6)
    result = await account.run()
    assert result.code == 0, result
    assert account.missing_files() == []
    assert account.count_requests()["object"] == result.document["outputs"]["completed"]


async def test_run_with_faults_downloads_each_file_with_the_right_bytes(account):
    account.simulator.faults = Faults.from_rules(
        {"fault": "cut", "at_fraction": 0.5, "endpoint": "object", "first": 1},
        {"fault": "url_expired", "endpoint": "object", "nth": 2, "probability": 0.3},
        {"fault": "throttled", "retry_after": 0, "endpoint": "download_url", "probability": 0.05},
        {"fault": "status", "status": 503, "endpoint": "search", "first": 1},
        {"fault": "unauthorized", "endpoint": "download_url", "probability": 0.02, "limit": 5},
        {"fault": "truncated_json", "at_byte": 100, "endpoint": "collections", "first": 1},
    )
    result = await account.run("--retries", "20")
    assert result.code == 0, result
    assert account.missing_files() == []
    assert list((account.output / ".bulkdl" / "parts").iterdir()) == []


async def test_run_with_tokens_of_one_second_and_urls_of_two_downloads_everything(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=12))
    options = SimulatorOptions(token_lifetime_s=1, url_lifetime_s=2, latency_s=0.02)
    async with Simulator(simulated, options) as simulator:
        account = StorageAccount(tmp_path, simulator)
        result = await account.run()
        assert result.code == 0, result
        assert account.missing_files() == []


async def test_rebuild_restores_a_lost_ledger_without_any_download(account):
    assert (await account.run()).code == 0
    shutil.rmtree(account.output / ".bulkdl")
    rebuilt = await account.bulkdl("verify", "--rebuild", "--format", "json")
    assert rebuilt.code == 0, rebuilt
    account.count_requests()
    again = await account.run()
    assert again.code == 0, again
    counts = account.count_requests()
    # A name that only the signed URL contained is in no document.
    nameless = sum(not each.name for each in account.simulator.account.deliveries.iter_deliveries())
    assert counts["object"] <= nameless


async def test_accounts_of_the_config_fail_alone(account):
    username, password = account.simulator.account_credentials
    config = account.folder / "bulkdl.toml"
    config.write_text(
        f'[[accounts]]\nname = "good"\nusername = "{username}"\npassword_env = "GOOD"\n'
        f'[[accounts]]\nname = "bad"\nusername = "{username}"\npassword_env = "BAD"\n'
    )
    env = {"GOOD": password, "BAD": "wrong", "UP42_USERNAME": "", "UP42_PASSWORD": ""}
    result = await account.run("-c", str(config), **env)
    assert account.missing_files() == []
    assert [problem["reason"] for problem in result.document["problems"]] == ["credentials"]
    assert "account bad" in result.document["problems"][0]["subject"]
    assert result.code == 3, result


async def test_plan_status_and_verify_show_the_storage(account):
    planned = await account.bulkdl("plan", "--format", "json")
    assert planned.code == 0, planned
    assert planned.document["to_download"]["original"] > 0
    assert not account.output.exists()
    assert (await account.run()).code == 0
    assert (await account.bulkdl("verify", "--deep")).code == 0
    status = await account.bulkdl("status", "--format", "json")
    assert status.code == 0, status


async def test_retry_downloads_only_the_failed_outputs(account):
    path = next(file.path for file in account.simulator.expected_files() if not file.is_original)
    rule = {"fault": "status", "status": 500, "endpoint": "object", "path": f"*{path}"}
    account.simulator.faults = Faults.from_rules(rule)
    failed = await account.run("--retries", "0")
    assert failed.code == 5, failed
    assert failed.document["outputs"]["failed"] == 1
    account.simulator.faults = None
    account.count_requests()
    result = await account.bulkdl("retry", "--format", "json")
    assert result.code == 0, result
    assert account.missing_files() == []
    counts = account.count_requests()
    assert (counts["object"], counts["download_url"]) == (1, 1)
    assert not [name for name in LISTS if counts[name]]


async def test_run_with_a_token_needs_no_login(account):
    username, password = account.simulator.account_credentials
    form = {"grant_type": "password", "username": username, "password": password, "client_id": "up42-api"}
    address = account.simulator.api_url + "/realms/public/protocol/openid-connect/token"
    async with aiohttp.ClientSession() as session, session.post(address, data=form) as response:
        token = (await response.json())["access_token"]
    account.count_requests()
    env = {"UP42_USERNAME": "", "UP42_PASSWORD": "", "UP42_TOKEN": token}
    result = await account.run("--only", "metadata", **env)
    assert result.code == 0, result
    assert account.count_requests()["login"] == 0
    assert token not in result.out + result.err
    rejected = await account.run(**{**env, "UP42_TOKEN": "canary-token"})
    assert rejected.code == 7, rejected
    assert "canary-token" not in rejected.out + rejected.err


async def test_shards_divide_the_deliveries(account):
    completed = []
    for number in range(2):
        output = str(account.folder / f"shard-{number}")
        result = await account.run("--shard", f"{number}/2", "--only", "original", "-o", output)
        assert result.code == 0, result
        completed.append(result.document["counts"])
    downloaded = sum(row["outputs"] for rows in completed for row in rows if row["reason"] == "downloaded")
    assert downloaded == sum(file.is_original for file in account.simulator.expected_files())
