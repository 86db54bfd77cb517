"""An extension of griffe, which reads the code for the site: methods that get options or documentation from a declaration at run time.

A method with ``**options`` is shown with a parameter for each option, and a method without a docstring with the one it has at run time.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import griffe


class RuntimeOptions(griffe.Extension):
    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        takes_options = any(each.kind is griffe.ParameterKind.var_keyword and each.name == "options" for each in func.parameters)
        if func.name.startswith("_") or not (takes_options or (func.docstring is None and func.parent.is_class)):
            return
        names = func.path.removeprefix(f"{func.module.path}.").split(".")
        method = functools.reduce(getattr, names, importlib.import_module(func.module.path))
        if takes_options:
            shown = [_parameter(func, each) for each in inspect.signature(method).parameters.values()]
            func.parameters = griffe.Parameters(*shown)
        text = inspect.getdoc(method)
        if text:
            func.docstring = griffe.Docstring(text, parent=func, parser="google")


def _parameter(func: griffe.Function, each: inspect.Parameter) -> griffe.Parameter:
    """A parameter as it is written in the code, or that of an option."""
    if each.name in func.parameters:
        return func.parameters[each.name]
    kind = griffe.ParameterKind.keyword_only
    return griffe.Parameter(each.name, annotation=each.annotation, kind=kind, default=repr(each.default))
