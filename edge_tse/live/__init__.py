"""Live sound: a session on a sound device, what steers it, its recording, its latency, and the page it leaves."""

from __future__ import annotations

from edge_tse.live.console import Console
from edge_tse.live.devices import Device, choose, wire
from edge_tse.live.duplex import Duplex
from edge_tse.live.loop import Event, Health, Latency, Loop
from edge_tse.live.recording import Recorder, Recording, load_recording, replay
from edge_tse.live.round_trip import RoundTrip
from edge_tse.live.session import Session
from edge_tse.live.steering import Change, Settings, Steering, load_presets
from edge_tse.live.supervision import Run, Take, record, supervise

__all__ = [
    "Change",
    "Console",
    "Device",
    "Duplex",
    "Event",
    "Health",
    "Latency",
    "Loop",
    "Recorder",
    "Recording",
    "RoundTrip",
    "Run",
    "Session",
    "Settings",
    "Steering",
    "Take",
    "choose",
    "load_presets",
    "load_recording",
    "record",
    "replay",
    "supervise",
    "wire",
]
