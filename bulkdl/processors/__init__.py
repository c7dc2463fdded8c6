"""Processors: steps on completed outputs, such as unpacking or writing a catalogue."""
