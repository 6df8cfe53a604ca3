"""What Guilder tells of PSPs, as JSON."""

from typing import Any

from guilder.shapes.facts import PspBreakerFacts
from guilder.shapes.version1.personal import Personal


def breaker(facts: PspBreakerFacts, _personal: Personal) -> dict[str, Any]:
    """A circuit breaker that has opened or closed."""
    return {
        "id": facts.id,
        "object": "psp_breaker",
        "changed": facts.changed,
        "connector": facts.connector,
        "livemode": facts.livemode,
        "operation": facts.operation,
        "state": facts.state,
    }
