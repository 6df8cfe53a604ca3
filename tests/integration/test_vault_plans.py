"""The plans of the statements that stand on the path of every payment, on empty tables that nobody has analysed."""

import pytest

from guilder.customers import personal as personal_records
from guilder.customers import store as customers
from guilder.db import Database
from guilder.merchants import store as merchants
from guilder.vault import store as vault

STATEMENTS = {
    "the vault's reveal": ("guilder_vault", vault.SELECT_CARDS, "ARRAY['pm_1']", "vault_card_pkey"),
    "PaymentMethods by id": ("guilder_app", customers.SELECT_METHODS, "ARRAY['pm_1']", "payment_method_pkey"),
    "personal records by id": ("guilder_app", personal_records.SELECT, "ARRAY['prs_1'], 'acct_1', false", "personal_pkey"),
    "a caller by key": ("guilder_app", merchants.SELECT_CALLER, "'\\x00'::bytea", "api_key_pkey"),
    "a merchant's terms": ("guilder_app", merchants.SELECT_TERMS, "'acct_1', false, 0", "price_list_pkey"),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_payments_statements_go_by_an_index(database: str, name: str) -> None:
    """The generic plan, as the hot connections have it."""
    role, statement, arguments, index = STATEMENTS[name]
    db = await Database.connect(database, role=role, max_size=1, hot=True, name="test")
    async with db.connection() as connection:
        await connection.execute(f"PREPARE hot AS {statement}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE hot({arguments})"))
    await db.close()
    assert index in plan
    assert "Seq Scan" not in plan
