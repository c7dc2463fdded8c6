"""The catalogue of an output directory: STAC, GeoPackage, mosaics, Parquet, GeoJSON and a page."""
