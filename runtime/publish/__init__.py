"""Fixes on a ZeroMQ socket."""
