"""The web layer: where Flask meets the engine."""
