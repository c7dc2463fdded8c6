"""
Make the screenshot of the GeoPackage in QGIS: ``qgis_screenshot.py CATALOG TARGET``.

It runs in the Python of a QGIS installation, without a display: ``QT_QPA_PLATFORM=offscreen``. The style is
that of the GeoPackage. The background is the world outline of the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsFillSymbol,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsPrintLayout,
    QgsProject,
    QgsRectangle,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QRectF
from qgis.PyQt.QtGui import QColor

WORLD = Path(__file__).parents[1] / "bulkdl/processors/catalog/page/vendor/world_atlas/countries-110m.json"
PAGE_MM = (216.0, 108.0)
DPI = 150
# Some degrees around the cluster of footprints with the most entries.
WINDOW_DEGREES = (0.24, 0.12)


def main(catalog: str, target: str) -> None:
    application = QgsApplication([], False)
    application.initQgis()
    outputs = QgsVectorLayer(f"{Path(catalog).resolve()}/outputs.gpkg|layername=outputs", "outputs", "ogr")
    world = QgsVectorLayer(f"{WORLD}|layername=countries", "world", "ogr")
    if not (outputs.isValid() and world.isValid()):
        raise SystemExit(f"{catalog}: QGIS cannot open the GeoPackage")
    land = QgsFillSymbol.createSimple({"color": "245,243,237", "outline_color": "170,170,160"})
    world.setRenderer(QgsSingleSymbolRenderer(land))
    render(outputs, world, find_window(outputs), Path(target))


def find_window(layer: QgsVectorLayer) -> QgsRectangle:
    """Return the extent around the footprint with the most neighbours."""
    boxes = [each.geometry().boundingBox() for each in layer.getFeatures() if each.hasGeometry()]
    centers = [box.center() for box in boxes if box.width() < 180]
    width, height = WINDOW_DEGREES

    def around(x: float, y: float) -> QgsRectangle:
        return QgsRectangle(x - width, y - height, x + width, y + height)

    windows = [around(center.x(), center.y()) for center in centers]
    return max(windows, key=lambda window: sum(window.contains(center) for center in centers))


def render(outputs: QgsVectorLayer, world: QgsVectorLayer, window: QgsRectangle, target: Path) -> None:
    """Write a picture of the map with the legend of *outputs*."""
    project = QgsProject.instance()
    project.addMapLayers([outputs, world])
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(*PAGE_MM))
    page = QgsLayoutItemMap(layout)
    page.attemptSetSceneRect(QRectF(0, 0, *PAGE_MM))
    page.setLayers([outputs, world])
    page.setBackgroundColor(QColor(223, 233, 240))
    page.setExtent(window)
    layout.addLayoutItem(page)
    legend = QgsLayoutItemLegend(layout)
    legend.setAutoUpdateModel(False)
    legend.model().rootGroup().removeLayer(world)
    legend.attemptMove(QgsLayoutPoint(3, 3))
    layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    QgsLayoutExporter(layout).exportToImage(str(target), settings)
    project.clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
