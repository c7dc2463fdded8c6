"""Client of today's UP42 API: assets, STAC, processing jobs and orders. Only this package reads its JSON."""
