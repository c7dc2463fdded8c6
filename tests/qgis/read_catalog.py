"""
Describe a catalogue as QGIS sees it: ``python3 read_catalog.py CATALOG`` prints JSON.

It runs in the Python of the QGIS installation, without a display.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from osgeo import gdal
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsRasterLayer,
    QgsVectorLayer,
)


def describe_layer(layer: QgsVectorLayer) -> dict[str, Any]:
    renderer = layer.renderer()
    facts = {
        "valid": layer.isValid(),
        "features": layer.featureCount(),
        "crs": layer.crs().authid(),
        "renderer": renderer.type() if renderer is not None else "",
        "map_tip": layer.mapTipTemplate(),
        "states": sorted({str(feature["state"]) for feature in layer.getFeatures()}),
    }
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        facts["attribute"] = renderer.classAttribute()
        facts["colours"] = {each.value(): each.symbol().color().name(0) for each in renderer.categories()}
    return facts


def render_tip(layer: QgsVectorLayer) -> str:
    """Return the map tip of an output with a quicklook, as QGIS fills it in."""
    feature = next(each for each in layer.getFeatures("\"thumbnail\" <> '' AND \"state\" = 'completed'"))
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(feature)
    return str(QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context))


def describe_mosaics(catalog: Path) -> dict[str, Any]:
    """Return validity, size and provider of each mosaic; empty if the GDAL of QGIS has no driver for them."""
    if gdal.GetDriverByName("GTI") is None:
        return {}
    layers = {path.name: QgsRasterLayer(str(path), path.stem) for path in catalog.glob("mosaic-*.gti.gpkg")}
    return {
        name: {"valid": layer.isValid(), "crs": layer.crs().authid(), "bands": layer.bandCount()}
        for name, layer in layers.items()
    }


def main(folder: str) -> None:
    catalog = Path(folder).resolve()
    application = QgsApplication([], False)
    application.initQgis()
    layers = {
        name: QgsVectorLayer(f"{catalog}/outputs.gpkg|layername={name}", name, "ogr")
        for name in ("outputs", "jobs", "failures")
    }
    facts = {
        "qgis": Qgis.QGIS_VERSION,
        "gdal": gdal.__version__,
        "outputs": describe_layer(layers["outputs"]),
        "tip": render_tip(layers["outputs"]),
        "others": {name: layers[name].isValid() for name in ("jobs", "failures")},
        "mosaics": describe_mosaics(catalog),
        "pictures": {
            path.name: QgsRasterLayer(str(path), path.stem).crs().authid()
            for path in sorted(catalog.parent.rglob("quicklooks/*"))
            if path.with_name(path.name + ".aux.xml").exists()
        },
    }
    layers.clear()
    sys.stdout.write(json.dumps(facts))
    sys.stdout.flush()


main(*sys.argv[1:])
