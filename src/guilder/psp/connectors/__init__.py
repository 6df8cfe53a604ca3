"""Connectors: one package per PSP, each passing tests/contract/test_connector.py.

Owns:       the connections to PSPs; the only code that reveals a card number.
Announces:  nothing.
May import: psp.model, psp.measure, vault, iso8583, security, config, tuning, core.
Start with: cardnet; shared.py has what all of them do alike, configured.py those of an installation.
"""
