"""Enrollment: a voice from recordings of a talker, or from a scene in which others talk too, with a judgement of each recording."""

from __future__ import annotations

from edge_tse.enrollment.quality import ClipQuality, assess
from edge_tse.enrollment.recordings import Enrollment, enroll_clips, enroll_files
from edge_tse.enrollment.scene import in_front

__all__ = ["ClipQuality", "Enrollment", "assess", "enroll_clips", "enroll_files", "in_front"]
