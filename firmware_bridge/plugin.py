"""The library as plugins for sound hosts, and as a JACK client: one archive for this kind of machine under Linux.

``edge-tse.lv2/edge-tse.so`` is the plugin for LADSPA and for LV2 at once, whose interfaces do not touch each other; the folder
around it is the LV2 bundle. ``edge-tse-jack`` is a program.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from edge_tse.artifact import Artifact
from edge_tse.errors import TargetError
from firmware_bridge.archive import pack_zip
from firmware_bridge.bill import plugin_bill
from firmware_bridge.build import linux_binary
from firmware_bridge.codegen import generate

__all__ = ["BUNDLE", "CLIENT", "PLUGIN_FILE", "pack_plugins", "plugin_in", "uri_of"]

BUNDLE = "edge-tse.lv2"
PLUGIN_FILE = f"{BUNDLE}/edge-tse.so"
CLIENT = "edge-tse-jack"

_EFFECT = ("effect.c", "resample.c")
_PLUGIN = (*_EFFECT, "copy.c", "plugin.c", "ladspa.c", "lv2.c")
_CLIENT = (*_EFFECT, "jack.c")


def uri_of(artifact: Artifact) -> str:
    """Beginning of the names of its LV2 plugins: models with a voice folded in are told apart, so that several can be installed."""
    return f"urn:edge-tse:{artifact.digest[:12]}" if artifact.personalized else "urn:edge-tse"


def pack_plugins(artifact: Artifact) -> tuple[bytes, str]:
    """Compile the plugins and the client, and pack them as ZIP: its content, and the bill that is in it.

    ``TargetError`` if this is not Linux, or the compiler is missing or refuses.
    """
    if sys.platform != "linux":
        raise TargetError(f"plugins are made for Linux, this is {sys.platform}: compile them there")
    generated = generate(artifact)
    uri = uri_of(artifact)
    with tempfile.TemporaryDirectory() as folder:
        plugin, client = Path(folder) / "plugin.so", Path(folder) / CLIENT
        # -Bsymbolic: two models in one host keep to themselves.
        shared = ("-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wl,-z,defs", f'-DETSE_URI="{uri}"')
        linux_binary(generated, _PLUGIN, plugin, shared)
        linux_binary(generated, _CLIENT, client)
        files = {PLUGIN_FILE: plugin.read_bytes(), CLIENT: client.read_bytes()}
    ears = min(artifact.frame.ears, 2)
    files |= {f"{BUNDLE}/{name}": text.encode() for name, text in _descriptions(uri, ears).items()}
    bill = plugin_bill(artifact, generated, {*_PLUGIN, *_CLIENT}, files)
    return pack_zip(files | {"sbom.cdx.json": bill.encode()}, programs=(PLUGIN_FILE, CLIENT)), bill


def plugin_in(content: bytes) -> bytes:
    """The plugin in an archive of :func:`pack_plugins`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(PLUGIN_FILE)


_PREFIXES = """@prefix doap: <http://usefulinc.com/ns/doap#> .
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix units: <http://lv2plug.in/ns/extensions/units#> .
"""

_CONTROLS = """
        a lv2:InputPort, lv2:ControlPort ; lv2:index 0 ; lv2:symbol "strength" ; lv2:name "Strength" ;
        lv2:default 1.0 ; lv2:minimum 0.0 ; lv2:maximum 1.0 ;
        rdfs:comment "Share of the talker; the rest is the sound as it came in."
    ] , [
        a lv2:InputPort, lv2:ControlPort ; lv2:index 1 ; lv2:symbol "ambient" ; lv2:name "Ambient" ;
        lv2:default -60.0 ; lv2:minimum -60.0 ; lv2:maximum 20.0 ; units:unit units:db ;
        rdfs:comment "Level of the room beside the talker; -60 leaves it out."
    ] , [
        a lv2:InputPort, lv2:ControlPort ; lv2:index 2 ; lv2:symbol "bypass" ; lv2:name "Bypass" ;
        lv2:default 0 ; lv2:minimum 0 ; lv2:maximum 1 ; lv2:portProperty lv2:toggled
    ] , [
        a lv2:OutputPort, lv2:ControlPort ; lv2:index 3 ; lv2:symbol "latency" ; lv2:name "Latency" ;
        lv2:minimum 0 ; lv2:maximum 65536 ; lv2:designation lv2:latency ;
        lv2:portProperty lv2:reportsLatency, lv2:integer ; units:unit units:frame
"""


def _descriptions(uri: str, ears: int) -> Mapping[str, str]:
    """``manifest.ttl`` and what it refers to, by name."""
    kinds = ["mono", "stereo"][:ears]
    manifest = "".join(
        f"\n<{uri}:{kind}> a lv2:Plugin ; lv2:binary <edge-tse.so> ; rdfs:seeAlso <edge-tse.ttl> .\n" for kind in kinds
    )
    plugins = "".join(_description(f"{uri}:{kind}", channels) for channels, kind in enumerate(kinds, 1))
    return {"manifest.ttl": _PREFIXES + manifest, "edge-tse.ttl": _PREFIXES + plugins}


def _description(name: str, channels: int) -> str:
    sides = [("", "")] if channels == 1 else [("left_", "Left "), ("right_", "Right ")]
    ports = [
        f"""        a lv2:{kind}Port, lv2:AudioPort ; lv2:index {{}} ; lv2:symbol "{side}{end}" ; lv2:name "{words}{end}"\n"""
        for kind, end in (("Input", "in"), ("Output", "out"))
        for side, words in sides
    ]
    audio = "".join(f"    ] , [\n{port.format(index)}" for index, port in enumerate(ports, 4))
    heard = "one microphone" if channels == 1 else "two ears"
    return f"""
<{name}>
    a lv2:Plugin, lv2:FilterPlugin ;
    doap:name "edge-tse, one enrolled talker ({heard})" ;
    doap:license <http://www.apache.org/licenses/LICENSE-2.0> ;
    rdfs:comment "Passes one enrolled talker and turns everybody else down." ;
    lv2:minorVersion 0 ; lv2:microVersion 1 ;
    lv2:optionalFeature lv2:hardRTCapable ;
    lv2:port [{_CONTROLS}{audio}    ] .
"""
