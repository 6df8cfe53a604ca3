"""The OpenAPI document against the running API: whatever it allows or forbids, no answer is a surprise (schemathesis)."""

import asyncio

import pytest
import pytest_asyncio
import schemathesis
from api_world import ApiWorld, api_world, database_name, fresh_database
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

# Enough to meet every parameter of every operation a few times, and the run stays below half a minute.
EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(server, tmp_path_factory):
    """The chain, for this module."""
    async with fresh_database(server, database_name("document")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        yield world


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
async def test_every_operation_answers_as_the_document_says(api: ApiWorld, mode):
    """Valid and invalid requests to every operation: never a 5xx, always a documented status, type and shape."""
    merchant = await api.merchant()
    answer = await api.send("GET", "/openapi.json")
    schema = schemathesis.openapi.from_dict(answer.json)
    headers = {"Authorization": f"Bearer {merchant.secret}"}

    def run(operation) -> None:
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case) -> None:
            case.call_and_validate(base_url=api.base, headers=headers, checks=CHECKS)

        check()

    for result in schema.get_all_operations():
        await asyncio.to_thread(run, result.ok())
