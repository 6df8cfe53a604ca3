"""Merchants: who may call, and on what terms.

Owns:       tables merchant, merchant_mode, merchant_brand, price_list, api_key.
Announces:  nothing.
May import: db, security, config, shapes, core.
Start with: model.py, then merchants.py.
"""

from guilder.merchants.brand import Brand, BrandChange
from guilder.merchants.merchants import Merchants
from guilder.merchants.model import ApiKey, Caller, KeyKind, MerchantFacts, Terms

__all__ = ["ApiKey", "Brand", "BrandChange", "Caller", "KeyKind", "MerchantFacts", "Merchants", "Terms"]
