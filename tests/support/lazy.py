"""Modules that are imported when a test first uses them, not when it is collected: each process of
a test run collects every test, and torch takes seconds."""

import importlib
from typing import Any


class Lazy:
    """Stands for a module: `torch = Lazy("torch")`. Patch by name: "torch.cuda.is_available"."""

    def __init__(self, name: str) -> None:
        self.__dict__["_lazy_name"] = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") or "mock" in attribute or "pytest" in attribute:
            raise AttributeError(attribute)  # pytest asks all that it collects for such
        return getattr(importlib.import_module(self._lazy_name), attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        name = f"{self._lazy_name}.{attribute}"
        raise AttributeError(f"the module would not be patched: monkeypatch.setattr({name!r}, …)")
