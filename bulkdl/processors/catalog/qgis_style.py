"""The style of the layer ``outputs``, which QGIS applies when it opens the GeoPackage."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from xml.sax.saxutils import escape, quoteattr

# State → label, fill, outline (red, green, blue)
_COLOURS = (
    ("completed", "completed", (44, 123, 182), (28, 78, 115)),
    ("failed", "failed", (215, 48, 39), (140, 20, 15)),
    ("skipped", "skipped (not available)", (253, 174, 97), (180, 110, 30)),
    ("cancelled", "cancelled", (150, 150, 150), (90, 90, 90)),
    ("planned", "not downloaded yet", (200, 200, 200), (120, 120, 120)),
)
_TIP = (
    "<b>[% title %]</b><br>[% state %][% CASE WHEN reason <> '' THEN ': ' || reason ELSE '' END %]<br>"
    "[% coalesce(datetime, '') %]<br>[% coalesce(job_name, job, '') %]<br>"
    "[% CASE WHEN thumbnail <> '' THEN '<img width=\"256\" src=\"file://' ||"
    " file_path(layer_property(@layer, 'path')) || '/' || thumbnail || '\">' ELSE '' END %]"
)
_TABLE = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))
"""


def add_style(connection: sqlite3.Connection, layer: str, written_at: datetime) -> None:
    """Store the style of *layer* in the GeoPackage."""
    stamp = f"{written_at:%Y-%m-%dT%H:%M:%S.000Z}"
    connection.execute(_TABLE)
    connection.execute(
        "INSERT INTO gpkg_contents VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, NULL, NULL,"
        " NULL, NULL, NULL)",
        (stamp,),
    )
    connection.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,"
        " styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time)"
        " VALUES ('', '', ?, 'geom', 'state', ?, '', 1, 'colour by state, quicklook as map tip', '', ?)",
        (layer, create_qml(), stamp),
    )


def create_qml() -> str:
    """Return the style: a colour for each state, and the quicklook as map tip."""
    categories = "".join(
        f'<category symbol="{number}" value={quoteattr(state)} label={quoteattr(label)} render="true"/>'
        for number, (state, label, _, _) in enumerate(_COLOURS)
    )
    symbols = "".join(_symbol(number, fill, outline) for number, (_, _, fill, outline) in enumerate(_COLOURS))
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis version="3.22.0" styleCategories="Symbology|MapTips">'
        '<renderer-v2 type="categorizedSymbol" attr="state" forceraster="0" symbollevels="0">'
        f"<categories>{categories}</categories><symbols>{symbols}</symbols></renderer-v2>"
        '<previewExpression>"title"</previewExpression>'
        f"<mapTip>{escape(_TIP)}</mapTip></qgis>"
    )


def _symbol(number: int, fill: tuple[int, int, int], outline: tuple[int, int, int]) -> str:
    red, green, blue = fill
    edge_red, edge_green, edge_blue = outline
    return (
        f'<symbol name="{number}" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">'
        '<layer class="SimpleFill" enabled="1" locked="0" pass="0">'
        f'<Option type="Map"><Option name="color" type="QString" value="{red},{green},{blue},70"/>'
        f'<Option name="outline_color" type="QString" value="{edge_red},{edge_green},{edge_blue},255"/>'
        '<Option name="outline_width" type="QString" value="0.35"/>'
        '<Option name="style" type="QString" value="solid"/></Option>'
        f'<prop k="color" v="{red},{green},{blue},70"/>'
        f'<prop k="outline_color" v="{edge_red},{edge_green},{edge_blue},255"/>'
        '<prop k="outline_width" v="0.35"/><prop k="style" v="solid"/></layer></symbol>'
    )
