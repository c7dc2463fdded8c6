"""
Simulate today's UP42 API: login, assets, STAC, processing jobs, orders and webhooks.

The endpoints are described in ``assets_api.py``, ``stac_api.py`` and ``webhooks.py``.
"""
