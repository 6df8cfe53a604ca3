"""Connectors: one package per PSP, each passing tests/contract/test_connector.py.

Owns:       the connections to PSPs; the only code that reveals a card number.
Announces:  nothing.
May import: psp.model, psp.breaker, vault, iso8583, security, core.
Start with: cardnet.
"""
